"""From the engine's server-sent events to the messages of a stream.

Every call turns the events that have come by then into one message; plain text of one choice that came in several
events is joined. What must not live here: waiting, sending (delivery.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from services.api.refusals import Refusal
from services.grpc.encode import chat_logprobs, complete_logprobs, finish_reason, stop_cause, usage_of
from services.grpc.engine_error import refusal_in
from services.grpc.generated.longreach.v1 import chat_pb2, complete_pb2

_DATA = b"data:"
_DONE = b"[DONE]"
_ENGINE_FAULT = 500
"""Of an error inside a stream whose own code says nothing."""


class StreamEncoder:
    """What chats and completions share; an instance a stream."""

    def __init__(self) -> None:
        self.error: Refusal | None = None
        """What the engine said instead of going on; nothing follows it."""
        self._is_first = True
        self._text_message = self._new()
        """Used again for every message that is nothing but text, which nearly all are."""
        self._text_delta = self._text_message.deltas.add()

    def message(self, events: bytes) -> bytes:
        """One serialized message of whole events; empty where they say nothing to a client.

        Raises:
            ValueError: an event is not JSON.
            LookupError: it is not in the form that engines send.
            TypeError: as before.
        """
        told = self._events(events)
        text = None if self._is_first else self._only_text(told)
        if text is None:
            message = self._filled(told)
        elif text:
            message = self._text_message
            self._put_text(self._text_delta, text)
        else:
            return b""
        serialized: bytes = message.SerializeToString()
        return serialized

    def _events(self, events: bytes) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for line in events.split(b"\n"):
            if not line.startswith(_DATA):
                continue
            text = line[len(_DATA) :].strip()
            if text == _DONE:
                continue
            event: dict[str, Any] = orjson.loads(text)
            if event.get("error"):
                self.error = refusal_in(event, _ENGINE_FAULT)
                break
            found.append(event)
        return found

    def _only_text(self, told: Sequence[Mapping[str, Any]]) -> str | None:
        """The text of events that say nothing else, and only of the first choice; None where they do."""
        texts: list[str] = []
        for event in told:
            choices = event["choices"]
            if len(choices) != 1 or event.get("usage") or event.get("prompt_token_ids"):
                return None
            text = None if choices[0]["index"] else self._plain_text(choices[0])
            if text is None:
                return None
            texts.append(text)
        return "".join(texts)

    def _filled(self, told: Sequence[Mapping[str, Any]]) -> Any:
        """A message of whatever the events say."""
        message = self._new()
        plain: dict[int, list[str]] = {}
        for event in told:
            if self._is_first:
                self._is_first = False
                message.id = event.get("id") or ""
                message.model = event.get("model") or ""
                message.created = event.get("created") or 0
            if event.get("usage"):
                message.usage.CopyFrom(usage_of(event))
            if event.get("prompt_token_ids"):
                message.prompt_token_ids.extend(event["prompt_token_ids"])
            for choice in event["choices"]:
                index = choice["index"]
                text = self._plain_text(choice)
                if text is None:
                    self._add(message, index, plain.pop(index, None))
                    self._fill(message.deltas.add(index=index), choice)
                elif text:
                    plain.setdefault(index, []).append(text)
        for index, texts in plain.items():
            self._add(message, index, texts)
        return message

    def _add(self, message: Any, index: int, texts: list[str] | None) -> None:
        """A delta of nothing but text."""
        if texts:
            self._put_text(message.deltas.add(index=index), "".join(texts))

    def _new(self) -> Any:
        """An empty message."""
        raise NotImplementedError

    def _plain_text(self, choice: Mapping[str, Any]) -> str | None:
        """The text of a delta that has nothing else; None where it has."""
        raise NotImplementedError

    def _put_text(self, delta: Any, text: str) -> None:
        """Write a delta's text."""
        raise NotImplementedError

    def _fill(self, delta: Any, choice: Mapping[str, Any]) -> None:
        """Write everything that a choice says."""
        delta.finish_reason = finish_reason(choice.get("finish_reason"))
        cause = stop_cause(choice.get("stop_reason"))
        if cause is not None:
            delta.stop_cause.CopyFrom(cause)
        delta.token_ids.extend(choice.get("token_ids") or ())


class ChatEncoder(StreamEncoder):
    """The stream of a chat."""

    def _new(self) -> Any:
        return chat_pb2.ChatStreamResponse()

    def _plain_text(self, choice: Mapping[str, Any]) -> str | None:
        told, said = choice.get, choice["delta"]
        if told("finish_reason") or told("logprobs") or told("token_ids") or len(said) > ("content" in said):
            return None
        return said.get("content") or ""

    def _put_text(self, delta: Any, text: str) -> None:
        delta.content = text

    def _fill(self, delta: Any, choice: Mapping[str, Any]) -> None:
        super()._fill(delta, choice)
        said = choice["delta"]
        delta.role = said.get("role") or ""
        delta.content = said.get("content") or ""
        delta.reasoning = said.get("reasoning") or said.get("reasoning_content") or ""
        delta.logprobs.extend(chat_logprobs(choice.get("logprobs")))
        for call in said.get("tool_calls") or ():
            function = call.get("function") or {}
            delta.tool_calls.add(
                index=call.get("index") or 0,
                id=call.get("id") or "",
                name=function.get("name") or "",
                arguments=function.get("arguments") or "",
            )


class CompleteEncoder(StreamEncoder):
    """The stream of a completion."""

    def _new(self) -> Any:
        return complete_pb2.CompleteStreamResponse()

    def _plain_text(self, choice: Mapping[str, Any]) -> str | None:
        told = choice.get
        if told("finish_reason") or told("logprobs") or told("token_ids") or told("prompt_token_ids"):
            return None
        return told("text") or ""

    def _put_text(self, delta: Any, text: str) -> None:
        delta.text = text

    def _fill(self, delta: Any, choice: Mapping[str, Any]) -> None:
        super()._fill(delta, choice)
        delta.text = choice.get("text") or ""
        delta.logprobs.extend(complete_logprobs(choice.get("logprobs")))
        delta.prompt_token_ids.extend(choice.get("prompt_token_ids") or ())
