"""What both clients are: settings, and one call from its arguments to its last try.

What must not live here: anything that waits; that is all the clients themselves add (blocking.py, awaiting.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message

from services.grpc.client.channel import MESSAGE_MAX_BYTES, Balancing, Tls, credentials_of, options_of, target_of
from services.grpc.client.errors import Details, GrpcCallError, error_of
from services.grpc.client.methods import Method
from services.grpc.client.request import message_in, metadata_of, options_in
from services.grpc.client.retry import RetryPolicy, wait_before_next_s

TIMEOUT_S = 1800.0
"""A long document's prefill on a slow machine takes minutes before the first token."""


class BaseClient:
    """Settings, and the calls made from them."""

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        tls: Tls | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: RetryPolicy | None = None,
        balancing: Balancing | str = Balancing.PICK_FIRST,
        message_max_bytes: int = MESSAGE_MAX_BYTES,
        gzip: bool = False,
        sleep: Callable[[float], Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare to call; nothing is sent yet.

        Args:
            address: "host:port", or a target with a scheme of gRPC's.
            api_key: sent with every call, where there is one.
            tls: None for none.
            timeout_s: of calls that name none; tries and waits together.
            retries: None for the default policy.
            balancing: between the addresses that the host's name has.
            message_max_bytes: of one request, and of one message of an answer.
            gzip: compress requests.
            sleep: waits between tries; the client's own by default.
            clock: monotonic seconds.
            rng: spreads waits, and names requests that have no id.

        Raises:
            SetupError: a TLS file cannot be read.
            ValueError: there is no such balancing.
        """
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._policy = retries or RetryPolicy()
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - ids are no secrets
        self._sleep = sleep or self._default_sleep
        self._channel = self._open(
            target_of(address),
            None if tls is None else credentials_of(tls),
            options_of(address, Balancing(balancing), message_max_bytes),
            grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression,
        )

    def _open(self, target: str, credentials: Any, options: list[tuple[str, Any]], compression: Any) -> Any:
        """A channel."""
        raise NotImplementedError

    def _default_sleep(self, wait_s: float) -> Any:
        """Wait between two tries."""
        raise NotImplementedError

    def _call(self, method: Method[Any], arguments: Mapping[str, Any]) -> Call:
        """A call that is about to be tried."""
        options = options_in(arguments)
        request_id = options.request_id or f"req-{self._rng.getrandbits(128):032x}"
        timeout_s = self._timeout_s if options.timeout_s is None else options.timeout_s
        return Call(
            request=message_in(method.takes, arguments),
            metadata=metadata_of(options, api_key=self._api_key, request_id=request_id),
            request_id=request_id,
            policy=self._policy,
            ends_s=self._clock() + timeout_s,
            clock=self._clock,
            rng=self._rng,
        )


class Call:
    """One call: what every try of it sends, and whether a failed one is followed by another."""

    def __init__(
        self,
        *,
        request: Message,
        metadata: tuple[tuple[str, str], ...],
        request_id: str,
        policy: RetryPolicy,
        ends_s: float,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.request = request
        self.metadata = metadata
        self._request_id = request_id
        self._policy = policy
        self._ends_s = ends_s
        self._clock = clock
        self._rng = rng
        self._made = 0

    @property
    def left_s(self) -> float:
        """Until the deadline."""
        return max(0.0, self._ends_s - self._clock())

    def error(self, failure: Any) -> GrpcCallError:
        """What a caller is told of a failure that is not tried again."""
        return error_of(failure, self._request_id)

    def closed(self) -> GrpcCallError:
        """What a caller is told who goes on reading what it closed."""
        return GrpcCallError(
            grpc.StatusCode.CANCELLED, "the stream was closed here", Details(request_id=self._request_id)
        )

    def wait_s(self, failure: Any) -> float:
        """How long to wait before the next try.

        Args:
            failure: how the last one ended, before anything of an answer.

        Raises:
            GrpcCallError: there is no next try.
        """
        self._made += 1
        error = self.error(failure)
        wait_s = wait_before_next_s(self._policy, error, made=self._made, left_s=self.left_s, draw=self._rng.random())
        if wait_s is None:
            raise error from failure
        return wait_s
