"""Asks one request over REST or gRPC and notes what came, piece by piece.

A client of its own, and not the load test's (loadtest/client): that one is made for rates and keeps sums, this one
keeps every token. What must not live here: whether the answer is right (judge.py).
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

import httpx

from loadtest.chaos.answer import Answer, End
from loadtest.chaos.kinds import Api, Kind
from services.grpc.client import AsyncClient, GrpcCallError, RetryPolicy

ANSWER_LIMIT_S = 240.0
"""Longer than Serve takes to replace a replica, so that whoever waits for it gets its answer."""
NO_HEADERS: Mapping[str, str] = {}
AGAIN = frozenset({End.BROKEN, End.UNCONNECTED})
AGAIN_AFTER_S = 0.5
OK = 200
DATA = "data: "
ONE_TRY = RetryPolicy(attempts=1)
"""The client's own retries would hide what is measured."""
REFUSALS = frozenset({429, 503})
REASON_CHARACTERS = 160
GRPC_REFUSALS = frozenset({"RESOURCE_EXHAUSTED", "UNAVAILABLE"})


class Asker:
    """Asks one cluster."""

    def __init__(self, url: str, grpc_address: str) -> None:
        """Connect, when asked.

        Args:
            url: of the gateway, without /v1.
            grpc_address: host and port.
        """
        # A connection a request: which worker a request meets is chance again each time, as for many clients.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(base_url=url, limits=limits, timeout=httpx.Timeout(ANSWER_LIMIT_S, connect=5))
        self._grpc_address = grpc_address

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def ask(self, kind: Kind, *, tries: int = 1, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
        """What came of it; never raises but for being cancelled.

        Args:
            kind: what to ask.
            tries: how often, as a client does that wants its answer: with one `Idempotency-Key`, where the connection
                or the stream broke.
            headers: more of them; of gRPC, metadata.
        """
        key = {"idempotency-key": uuid.uuid4().hex} if tries > 1 else {}
        begun_s = time.monotonic()
        for number in range(1, tries + 1):
            answer = Answer(kind=kind.name, sent_s=time.monotonic())
            await self.fill(answer, kind, {**headers, **key})
            answer.attempts, answer.sent_s = number, begun_s
            if answer.end not in AGAIN:
                break
            if number < tries:
                await asyncio.sleep(AGAIN_AFTER_S)
        return answer

    async def fill(self, answer: Answer, kind: Kind, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Ask once; `answer` can be watched meanwhile."""
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                if kind.api is Api.GRPC:
                    await self._ask_grpc(kind, answer, headers)
                else:
                    await self._ask_rest(kind, answer, headers)
        except httpx.ConnectError as error:
            answer.end, answer.detail = End.UNCONNECTED, str(error)
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
            # Also an answer that is not what it should be: that is what is looked for.
            answer.end, answer.detail = End.BROKEN, f"{type(error).__name__}: {error}"
        except TimeoutError:
            answer.end, answer.detail = End.LATE, f"nothing within {ANSWER_LIMIT_S:g} s"
        answer.ended_s = time.monotonic()

    async def _ask_rest(self, kind: Kind, answer: Answer, headers: Mapping[str, str]) -> None:
        async with self._http.stream("POST", kind.path, json=kind.body, headers=headers) as response:
            answer.status = response.status_code
            answer.pool = response.headers.get("x-longreach-pool", "")
            answer.replica = response.headers.get("x-longreach-replica", "")
            if response.status_code != OK:
                text = (await response.aread()).decode("utf-8", "replace")
                answer.detail = f"{response.status_code} {text[:REASON_CHARACTERS]}"
                told = response.headers.get("retry-after")
                answer.retry_after_s = None if told is None else float(told)
                is_refusal = response.status_code in REFUSALS and told is not None
                answer.end = End.REFUSED if is_refusal else End.FAILED
                return
            if not kind.is_stream:
                _whole(json.loads(await response.aread()), answer)
                return
            async for line in response.aiter_lines():
                if line == f"{DATA}[DONE]":
                    answer.end = End.COMPLETE
                elif line.startswith(DATA):
                    _event(json.loads(line.removeprefix(DATA)), answer)

    async def _ask_grpc(self, kind: Kind, answer: Answer, headers: Mapping[str, str]) -> None:
        # A channel a request, for the same reason.
        async with AsyncClient(self._grpc_address, retries=ONE_TRY) as client:
            try:
                if not kind.is_stream:
                    whole = await client.chat(**kind.body, metadata=headers)
                    choice = whole.choices[0]
                    answer.came(time.monotonic(), list(choice.token_ids), choice.message.content)
                    answer.finish = _name(choice)
                    _grpc_usage(whole.usage, answer)
                else:
                    async for message in client.chat_stream(**kind.body, metadata=headers):
                        for delta in message.deltas:
                            answer.came(time.monotonic(), list(delta.token_ids), delta.content)
                            answer.finish = _name(delta) or answer.finish
                        if message.HasField("usage"):
                            _grpc_usage(message.usage, answer)
                answer.end, answer.status = End.COMPLETE, OK
            except GrpcCallError as error:
                answer.retry_after_s, answer.detail = error.retry_after_s, str(error)[:REASON_CHARACTERS]
                is_refusal = error.code.name in GRPC_REFUSALS and error.retry_after_s is not None and not answer.ids
                answer.end = End.REFUSED if is_refusal else End.BROKEN


def _whole(data: Mapping[str, Any], answer: Answer) -> None:
    choice = data["choices"][0]
    message = choice.get("message", choice)
    answer.came(time.monotonic(), choice.get("token_ids") or [], message.get("content") or message.get("text") or "")
    answer.finish = choice["finish_reason"]
    _usage(data["usage"], answer)
    answer.end = End.COMPLETE


def _event(data: Mapping[str, Any], answer: Answer) -> None:
    if "error" in data:
        answer.detail = str(data["error"])[:REASON_CHARACTERS]
        return
    for choice in data.get("choices", ()):
        delta = choice.get("delta", choice)
        text = delta.get("content") or choice.get("text") or ""
        for call in delta.get("tool_calls") or ():
            text += call.get("function", {}).get("arguments") or ""
        for told in (choice.get("logprobs") or {}).get("content") or ():
            answer.logprobs.append(told["logprob"])
        answer.came(time.monotonic(), choice.get("token_ids") or [], text)
        answer.finish = choice.get("finish_reason") or answer.finish
    if data.get("usage"):
        _usage(data["usage"], answer)


def _usage(usage: Mapping[str, Any], answer: Answer) -> None:
    answer.usages += 1
    answer.output_tokens, answer.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
    answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


def _grpc_usage(usage: Any, answer: Answer) -> None:
    answer.usages += 1
    answer.output_tokens, answer.prompt_tokens = usage.completion_tokens, usage.prompt_tokens


def _name(part: Any) -> str:
    """The finish reason of a choice or delta, by its name; empty before the end."""
    field = part.DESCRIPTOR.fields_by_name["finish_reason"]
    name = field.enum_type.values_by_number[part.finish_reason].name
    return "" if name.endswith("UNSPECIFIED") else name
