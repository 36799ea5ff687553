"""The client for asyncio.

What must not live here: what is the same for threads (base.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Generic, Self

import grpc

from services.grpc.client import methods
from services.grpc.client.base import BaseClient, Call
from services.grpc.client.methods import A, Method


def _whole(method: Method[A]) -> Callable[..., Coroutine[Any, Any, A]]:
    """The client's function for a method that answers whole."""

    async def ask(client: AsyncClient, **arguments: Any) -> A:
        return await client.ask(method, arguments)

    ask.__doc__ = f"{method.does}\n\nTakes {method.takes.__name__}'s fields and CallOptions; raises GrpcCallError."
    return ask


def _streamed(method: Method[A]) -> Callable[..., AsyncStream[A]]:
    """The client's function for a method that answers with a stream."""

    def begin(client: AsyncClient, **arguments: Any) -> AsyncStream[A]:
        return client.begin(method, arguments)

    begin.__doc__ = f"{method.does}\n\nTakes {method.takes.__name__}'s fields and CallOptions."
    return begin


class AsyncClient(BaseClient):
    """Calls a gateway from the event loop it was made in; a task that is cancelled cancels its call."""

    chat = _whole(methods.CHAT)
    chat_stream = _streamed(methods.CHAT_STREAM)
    complete = _whole(methods.COMPLETE)
    complete_stream = _streamed(methods.COMPLETE_STREAM)
    embed = _whole(methods.EMBED)
    tokenize = _whole(methods.TOKENIZE)
    detokenize = _whole(methods.DETOKENIZE)
    count_tokens = _whole(methods.COUNT_TOKENS)
    list_models = _whole(methods.LIST_MODELS)
    pools = _whole(methods.POOLS)
    replicas = _whole(methods.REPLICAS)
    explain = _whole(methods.EXPLAIN)
    drain = _whole(methods.DRAIN)

    async def ask(self, method: Method[A], arguments: Mapping[str, Any]) -> A:
        """Call a method that answers whole.

        Raises:
            GrpcCallError: there is no answer.
            SetupError: metadata cannot carry one of the arguments.
            ValueError: the request has no such field.
            TypeError: a field has a value of another type.
        """
        call = self._call(method, arguments)
        begin = self._channel.unary_unary(method.path, method.takes.SerializeToString, method.gives.FromString)
        while True:
            try:
                answer: A = await begin(call.request, timeout=call.left_s, metadata=call.metadata)
            except grpc.RpcError as failure:
                wait_s = call.wait_s(failure)
            else:
                return answer
            await self._sleep(wait_s)

    def begin(self, method: Method[A], arguments: Mapping[str, Any]) -> AsyncStream[A]:
        """Call a method that answers with a stream; see `ask` for what it raises, here or while iterating."""
        begin = self._channel.unary_stream(method.path, method.takes.SerializeToString, method.gives.FromString)
        return AsyncStream(begin, self._call(method, arguments), self._sleep)

    async def close(self) -> None:
        """Cancel what is under way and give the connections back."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _open(self, target: str, credentials: Any, options: list[tuple[str, Any]], compression: Any) -> Any:
        if credentials is None:
            return grpc.aio.insecure_channel(target, options, compression)
        return grpc.aio.secure_channel(target, credentials, options, compression)

    async def _default_sleep(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)


class AsyncStream(Generic[A]):
    """An answer as it arrives: iterate for its messages; closing, or leaving the `async with`, cancels the rest."""

    def __init__(self, begin: Callable[..., Any], call: Call, sleep: Callable[[float], Any]) -> None:
        self._begin = begin
        self._call = call
        self._sleep = sleep
        self._first: list[A] = []
        self._has_begun = False
        self._is_closed = False
        self._start()

    async def metadata(self) -> dict[str, str]:
        """Where the request went and why, by header name; waits for the first message.

        Raises:
            GrpcCallError: there is no answer.
        """
        if not self._has_begun:
            self._first = [message for message in (await anext(self, None),) if message is not None]
        return dict(await self._under_way.initial_metadata())

    def close(self) -> None:
        """Cancel what has not arrived."""
        self._is_closed = True
        self._under_way.cancel()

    def __aiter__(self) -> AsyncIterator[A]:
        return self

    async def __anext__(self) -> A:
        if self._first:
            return self._first.pop()
        while True:
            try:
                message: A = await anext(self._messages)
            except StopAsyncIteration:
                self._has_begun = True
                raise
            except asyncio.CancelledError:
                # Closed from another task, grpc raises it here, in a task that nobody has cancelled.
                if self._is_closed and not _is_cancelled():
                    raise self._call.closed() from None
                raise
            except grpc.RpcError as failure:
                if self._has_begun:
                    raise self._call.error(failure) from failure
                wait_s = self._call.wait_s(failure)
            else:
                self._has_begun = True
                return message
            await self._sleep(wait_s)
            if self._is_closed:
                raise self._call.closed()
            self._start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        call = self._call
        self._under_way = self._begin(call.request, timeout=call.left_s, metadata=call.metadata)
        self._messages = aiter(self._under_way)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
