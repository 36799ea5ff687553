"""grpc.health.v1: whether a service can be used now, asked once or watched.

A watcher that does not read holds up nobody but itself: nothing is shared while it is written to. (The servicer that
comes with grpcio writes to watchers under the lock that setting a state needs.) What must not live here: knowing
whether a service can be used (server.py).
"""

from __future__ import annotations

import asyncio

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import DESCRIPTOR, HealthCheckRequest, HealthCheckResponse

from services.api.refusals import Refusal
from services.grpc.calls import Context, receive

SERVICE = DESCRIPTOR.services_by_name["Health"].full_name
REQUEST_S = 10.0
"""The request is a name."""


class Health:
    """States by service name, and who waits for them to change."""

    def __init__(self) -> None:
        self._states: dict[str, HealthCheckResponse.ServingStatus] = {}
        self._changed = asyncio.Event()
        self._is_ending = False

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.stream_unary_rpc_method_handler(self._check),
                "Watch": grpc.stream_stream_rpc_method_handler(self._watch),
            },
        )

    def set(self, name: str, *, is_serving: bool) -> None:
        """Tell the state of a service; the empty name is the server as a whole."""
        state = HealthCheckResponse.SERVING if is_serving else HealthCheckResponse.NOT_SERVING
        if self._states.get(name) != state:
            self._states[name] = state
            self._tell()

    def end(self) -> None:
        """Tell watchers the latest, and let go of them."""
        self._is_ending = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _check(self, _requests: object, context: Context) -> bytes:
        state = self._states.get(await self._name(context))
        if state is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service here.", ())
        answer: bytes = HealthCheckResponse(status=state).SerializeToString()
        return answer

    async def _watch(self, _requests: object, context: Context) -> None:
        name, last = await self._name(context), None
        while True:
            changed = self._changed
            state = self._states.get(name, HealthCheckResponse.SERVICE_UNKNOWN)
            if state != last:
                last = state
                await context.write(HealthCheckResponse(status=state).SerializeToString())
                continue  # it may have changed meanwhile
            if self._is_ending:
                return
            await changed.wait()

    async def _name(self, context: Context) -> str:
        raw = await receive(context, REQUEST_S)
        try:
            name: str = HealthCheckRequest.FromString(b"\xff" if isinstance(raw, Refusal) else raw).service
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The request is no valid HealthCheckRequest.", ())
            raise
        return name
