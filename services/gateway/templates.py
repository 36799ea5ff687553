"""A model's chat template, rendered the way the engine renders it.

The settings are those of transformers' `apply_chat_template` (utils/chat_template_utils.py, 5.19) and the preparation
of messages is that of vLLM's renderer (renderers/chat_utils.py, 0.32), so that counted text is the engine's text.
What must not live here: tokenizing. No code of a model folder runs: the template sees a sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cluster.core.prompt import Conversation

SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TemplateError(Exception):
    """The conversation cannot be rendered; the engine will most likely refuse it as well."""


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` marks an assistant's tokens for training; here it only passes its content on."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's interface

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass_on"), [], [], body).set_lineno(line)

    def _pass_on(self, caller: Callable[[], str]) -> str:
        return caller()


class ChatTemplate:
    """One model's template, and a second one for tools where the model has it."""

    def __init__(self, source: str, *, tool_source: str | None, special_tokens: Mapping[str, str]) -> None:
        """Compile the template.

        Raises:
            jinja2.TemplateError: it is not a template.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, jinja2.ext.loopcontrols],
            # A prompt is not a page: escaping HTML would change it.
            autoescape=False,
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._environment = environment
        self._plain = _Compiled(environment, source)
        self._tools = self._plain if tool_source is None else _Compiled(environment, tool_source)
        self._special_tokens = dict(special_tokens)

    def render(self, conversation: Conversation) -> str:
        """The prompt's text.

        Raises:
            TemplateError: the template refuses the conversation, or cannot deal with it.
        """
        compiled = self._tools if conversation.tools else self._plain
        variables: dict[str, Any] = {"add_generation_prompt": True, **self._special_tokens}
        variables.update(conversation.template_arguments)
        try:
            messages = [compiled.prepare(message) for message in conversation.messages]
            return compiled.template.render(
                **{**variables, "messages": messages, "tools": list(conversation.tools) or None, "documents": None}
            )
        # A template is foreign code that can fail in any way; every way means the same here.
        except Exception as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from error


class _Compiled:
    """A template and what it expects a message's content to be."""

    def __init__(self, environment: jinja2.Environment, source: str) -> None:
        tree = environment.parse(source)
        self.template = environment.from_string(source)
        self._takes_parts = any(_loops_over_content(loop) for loop in tree.find_all(jinja2.nodes.For))
        self._knows_developer = '"developer"' in source or "'developer'" in source

    def prepare(self, message: Mapping[str, Any]) -> dict[str, Any]:
        prepared = dict(message)
        role = prepared.get("role")
        if role == "developer" and not self._knows_developer:
            prepared["role"] = "system"
        prepared["content"] = self._content(prepared.get("content"), is_tool=role == "tool")
        if role == "assistant" and "tool_calls" in prepared:
            calls = prepared["tool_calls"]
            if calls:
                prepared["tool_calls"] = [_call_with_arguments(call) for call in calls]
            else:
                del prepared["tool_calls"]
        return prepared

    def _content(self, content: Any, *, is_tool: bool) -> Any:
        if content is None:
            parts: list[Any] = []
        elif isinstance(content, str):
            parts = [{"type": "text", "text": content}]
        else:
            parts = [_part(part) for part in content]
        texts_only = all(part["type"] == "text" for part in parts)
        if self._takes_parts and not (is_tool and texts_only):
            return parts
        return "\n".join(part["text"] for part in parts if part["type"] == "text")


def load_chat_template(folder: Path) -> ChatTemplate | None:
    """The template of the model in `folder`; None when it has none.

    Raises:
        OSError: a file is there and cannot be read.
        ValueError: a file is not JSON.
        jinja2.TemplateError: the template is not one.
    """
    settings = _read_json(folder / "tokenizer_config.json")
    named = _templates(folder, settings)
    source = named.get("default")
    if source is None:
        return None
    tokens = {**_read_json(folder / "special_tokens_map.json"), **settings}
    special = {name: text for name in SPECIAL_TOKEN_NAMES if (text := _token_text(tokens.get(name))) is not None}
    return ChatTemplate(source, tool_source=named.get("tool_use"), special_tokens=special)


def _templates(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Templates by name, from the places transformers looks at; a file of its own goes over the settings."""
    found = settings.get("chat_template")
    named: dict[str, str] = {}
    if isinstance(found, str):
        named["default"] = found
    elif isinstance(found, list):
        named = {str(item["name"]): str(item["template"]) for item in found}
    legacy = _read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(legacy, str):
        named["default"] = legacy
    single = folder / "chat_template.jinja"
    if single.is_file():
        named["default"] = single.read_text(encoding="utf-8")
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        named[path.stem] = path.read_text(encoding="utf-8")
    return named


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return data if isinstance(data, dict) else {}


def _token_text(token: Any) -> str | None:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type", "text")
    if kind in {"text", "input_text", "output_text", "refusal", "thinking"}:
        return {"type": "text", "text": str(part.get("text") or part.get("refusal") or part.get("thinking") or "")}
    return {"type": str(kind).removesuffix("_url")}


def _call_with_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    """Templates expect a tool call's arguments as an object, the API sends them as text."""
    function = dict(call["function"])
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = None
    function["arguments"] = arguments if isinstance(arguments, dict) else {}
    return {**call, "function": function}


def _loops_over_content(loop: jinja2.nodes.For) -> bool:
    over = loop.iter
    while isinstance(over, jinja2.nodes.Filter) and over.node is not None:
        over = over.node
    if isinstance(over, jinja2.nodes.Name):
        return over.name == "content"
    if isinstance(over, jinja2.nodes.Getattr):
        return over.attr == "content"
    if isinstance(over, jinja2.nodes.Getitem) and isinstance(over.arg, jinja2.nodes.Const):
        return bool(over.arg.value == "content")
    return False


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates call it that way
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 - templates call it that way
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    # Templates want the engine host's wall clock, which has no zone in transformers either.
    return datetime.now().strftime(form)  # noqa: DTZ005
