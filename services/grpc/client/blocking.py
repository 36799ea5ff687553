"""The client for threads.

What must not live here: what is the same for asyncio (base.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Self

import grpc

from services.grpc.client import methods
from services.grpc.client.base import BaseClient, Call
from services.grpc.client.methods import A, Method


def _whole(method: Method[A]) -> Callable[..., A]:
    """The client's function for a method that answers whole."""

    def ask(client: Client, **arguments: Any) -> A:
        return client.ask(method, arguments)

    ask.__doc__ = f"{method.does}\n\nTakes {method.takes.__name__}'s fields and CallOptions; raises GrpcCallError."
    return ask


def _streamed(method: Method[A]) -> Callable[..., Stream[A]]:
    """The client's function for a method that answers with a stream."""

    def begin(client: Client, **arguments: Any) -> Stream[A]:
        return client.begin(method, arguments)

    begin.__doc__ = f"{method.does}\n\nTakes {method.takes.__name__}'s fields and CallOptions."
    return begin


class Client(BaseClient):
    """Calls a gateway; every method blocks, and may be called from several threads.

    Ctrl-C, or any other exception, in a method or a stream's `with` cancels the call.
    """

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

    def ask(self, method: Method[A], arguments: Mapping[str, Any]) -> A:
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
            under_way = begin.future(call.request, timeout=call.left_s, metadata=call.metadata)
            try:
                answer: A = under_way.result()
            except grpc.RpcError as failure:
                wait_s = call.wait_s(failure)
            except BaseException:
                under_way.cancel()
                raise
            else:
                return answer
            self._sleep(wait_s)

    def begin(self, method: Method[A], arguments: Mapping[str, Any]) -> Stream[A]:
        """Call a method that answers with a stream; see `ask` for what it raises, here or while iterating."""
        begin = self._channel.unary_stream(method.path, method.takes.SerializeToString, method.gives.FromString)
        return Stream(begin, self._call(method, arguments), self._sleep)

    def close(self) -> None:
        """Cancel what is under way and give the connections back."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, target: str, credentials: Any, options: list[tuple[str, Any]], compression: Any) -> Any:
        if credentials is None:
            return grpc.insecure_channel(target, options, compression)
        return grpc.secure_channel(target, credentials, options, compression)

    def _default_sleep(self, wait_s: float) -> None:
        time.sleep(wait_s)


class Stream(Generic[A]):
    """An answer as it arrives: iterate for its messages; closing, or leaving the `with`, cancels the rest."""

    def __init__(self, begin: Callable[..., Any], call: Call, sleep: Callable[[float], Any]) -> None:
        self._begin = begin
        self._call = call
        self._sleep = sleep
        self._first: list[A] = []
        self._has_begun = False
        self._is_closed = False
        self._start()

    @property
    def metadata(self) -> dict[str, str]:
        """Where the request went and why, by header name; waits for the first message.

        Raises:
            GrpcCallError: there is no answer.
        """
        if not self._has_begun:
            self._first = [message for message in (next(self, None),) if message is not None]
        return dict(self._under_way.initial_metadata())

    def close(self) -> None:
        """Cancel what has not arrived."""
        self._is_closed = True
        self._under_way.cancel()

    def __iter__(self) -> Iterator[A]:
        return self

    def __next__(self) -> A:
        if self._first:
            return self._first.pop()
        while True:
            try:
                message: A = next(self._under_way)
            except StopIteration:
                self._has_begun = True
                raise
            except grpc.RpcError as failure:
                if self._has_begun:
                    raise self._call.error(failure) from failure
                wait_s = self._call.wait_s(failure)
            else:
                self._has_begun = True
                return message
            self._sleep(wait_s)
            if self._is_closed:
                raise self._call.closed()
            self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        call = self._call
        self._under_way = self._begin(call.request, timeout=call.left_s, metadata=call.metadata)
