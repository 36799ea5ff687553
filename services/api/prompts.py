"""What a body asks the model to read: from each API's own form to the core's `Prompt`.

Chat is taken as it is. Responses and Anthropic messages are converted to chat as vLLM 0.32 does it
(entrypoints/openai/responses/utils.py, entrypoints/anthropic/serving.py), near enough to choose a pool: the replica
counts what it really made of them. What must not live here: counting, refusing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.core.prompt import Conversation, Prompt, Texts, TokenIds
from cluster.core.request import Route

_OTHER_TEMPLATE = frozenset(
    {"chat_template", "documents", "continue_final_message", "mm_processor_kwargs", "reasoning_effort"}
)
"""Fields of vLLM's that change what the template makes of a conversation in ways not followed here."""

_INT_ONLY = frozenset({int})


class NotAPromptError(Exception):
    """A prompt field holds something that is none; the message is for the client."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


def prompt_of(route: Route, body: Mapping[str, Any]) -> Prompt | None:  # noqa: PLR0911 - one return a route
    """The prompt in a validated `body`; None for routes that need no context window.

    Raises:
        NotAPromptError: its field has a form that no engine takes.
    """
    match route:
        case Route.CHAT:
            return _chat(body)
        case Route.COMPLETIONS:
            return _plain(body.get("prompt"), "prompt", add_special_tokens=body.get("add_special_tokens") is not False)
        case Route.RESPONSES:
            return _responses(body)
        case Route.MESSAGES:
            return _anthropic(body)
        case Route.EMBEDDINGS:
            return _chat(body) if body.get("messages") else _plain(body.get("input"), "input", add_special_tokens=True)
        case Route.RERANK:
            return _rerank(body)
        case Route.TOKENIZE | Route.DETOKENIZE:
            return None


def _chat(body: Mapping[str, Any]) -> Conversation:
    arguments = dict(body.get("chat_template_kwargs") or ())
    if isinstance(body.get("add_generation_prompt"), bool):
        arguments["add_generation_prompt"] = body["add_generation_prompt"]
    messages = tuple(body["messages"])
    tools = tuple([_tool(tool) for tool in body.get("tools") or ()])
    return Conversation(
        messages=messages,
        tools=tools,
        template_arguments=arguments,
        is_faithful=not tools and _has_usual_template(body) and all(map(_is_plain_message, messages)),
    )


def _has_usual_template(body: Mapping[str, Any]) -> bool:
    return _OTHER_TEMPLATE.isdisjoint(body) or not any(body.get(field) for field in _OTHER_TEMPLATE)


def _is_plain_message(message: Mapping[str, Any]) -> bool:
    """Text only: pictures and sounds have lengths that only the engine knows."""
    content = message.get("content")
    if isinstance(content, list):
        return all(isinstance(part, str) or part.get("type", "text") == "text" for part in content)
    return not message.get("tool_calls")


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as vLLM hands it to the template: known fields, in its own order."""
    function = tool.get("function")
    if not isinstance(function, dict):
        return dict(tool)
    known = {"name": function.get("name"), "description": function.get("description")}
    known["parameters"] = function.get("parameters")
    if function.get("strict") is not None:
        known["strict"] = function["strict"]
    return {"type": "function", "function": known}


def _plain(value: Any, field: str, *, add_special_tokens: bool) -> Prompt:
    """A string, strings, token ids, or lists of token ids."""
    if isinstance(value, str):
        return Texts(texts=(value,), add_special_tokens=add_special_tokens)
    if isinstance(value, list) and value:
        if all(isinstance(item, str) for item in value):
            return Texts(texts=tuple(value), add_special_tokens=add_special_tokens)
        if _are_ids(value):
            return TokenIds(longest_tokens=len(value))
        if all(isinstance(item, list) and item and _are_ids(item) for item in value):
            return TokenIds(longest_tokens=max(map(len, value)), prompts=len(value))
    raise NotAPromptError(field, f"{field} must be a string, a list of strings, token ids or a list of token id lists.")


def _are_ids(value: Sequence[Any]) -> bool:
    return _INT_ONLY.issuperset(map(type, value)) and min(value) >= 0


def _responses(body: Mapping[str, Any]) -> Conversation:
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    else:
        messages += [message for item in given or () if (message := _from_item(item)) is not None]
    tools = tuple(_tool({"function": tool}) for tool in body.get("tools") or () if tool.get("type") == "function")
    is_plain = isinstance(given, str) and not body.get("tools")
    return Conversation(messages=tuple(messages), tools=tools, is_faithful=is_plain)


def _from_item(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """A Responses item as a chat message."""
    kind = item.get("type", "message")
    if kind == "function_call":
        function = {"name": str(item.get("name")), "arguments": item.get("arguments")}
        return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}
    if kind == "function_call_output":
        output = item.get("output")
        return {"role": "tool", "content": output if isinstance(output, str) else json.dumps(output)}
    if kind == "reasoning":
        return None
    content = item.get("content")
    return {"role": str(item.get("role", "user")), "content": content if isinstance(content, (str, list)) else ""}


def _anthropic(body: Mapping[str, Any]) -> Conversation:
    messages: list[dict[str, Any]] = []
    system = body.get("system")
    if isinstance(system, list):
        system = "".join(str(block.get("text") or "") for block in system)
    if system:
        messages.append({"role": "system", "content": system})
    for message in body["messages"]:
        messages += _from_anthropic(message)
    tools = tuple(
        _tool({"function": {**tool, "parameters": tool.get("input_schema")}}) for tool in body.get("tools") or ()
    )
    is_plain = not tools and all(isinstance(message.get("content"), str) for message in body["messages"])
    return Conversation(messages=tuple(messages), tools=tools, is_faithful=is_plain)


def _from_anthropic(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An Anthropic message as chat messages; results of tools become messages of their own."""
    content = message.get("content")
    if not isinstance(content, list):
        return [{"role": message["role"], "content": content}]
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for block in content:
        if isinstance(block, str):
            texts.append(block)
        elif block.get("type") == "text":
            texts.append(str(block.get("text") or ""))
        elif block.get("type") == "tool_use":
            function = {"name": str(block.get("name")), "arguments": json.dumps(block.get("input") or {})}
            calls.append({"type": "function", "function": function})
        elif block.get("type") == "tool_result":
            results.append({"role": "tool", "content": _result_text(block.get("content"))})
    own = {"role": message["role"], "content": "\n".join(texts)} | ({"tool_calls": calls} if calls else {})
    return [*results, own] if texts or calls else results


def _result_text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _rerank(body: Mapping[str, Any]) -> Texts:
    """Query and document are read together; how exactly is the model's affair."""
    query = _text(body.get("query"))
    documents = body.get("documents")
    return Texts(
        texts=tuple(f"{query}\n{_text(document)}" for document in documents)
        if isinstance(documents, list)
        else (query,),
        is_faithful=False,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
