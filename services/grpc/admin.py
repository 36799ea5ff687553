"""The Admin service: what the admin listener shows, and draining replicas; for keys with the role admin.

What must not live here: deciding, keeping what is drained (cluster/state/leases.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from redis.exceptions import RedisError

from cluster.core.lease import ReplicaId
from cluster.core.request import OverCap, Route
from cluster.core.routing import Decision, explain
from cluster.core.tenant import Identity
from services.api.decode import output_field_of, request_id_of
from services.api.gateway import Gateway
from services.api.refusals import NOT_FOUND, SERVER_ERROR, Refusal, from_outcome, internal, invalid, not_admin
from services.api.sender import ask_of, identify
from services.gateway.directory import EndpointState, state_of
from services.gateway.outcome import UnknownModel
from services.grpc import decode
from services.grpc.calls import Calls, Context, abort, certificate_of, metadata_of, receive
from services.grpc.generated.longreach.v1 import admin_pb2

logger = logging.getLogger(__name__)

SERVICE = "longreach.v1.Admin"
DRAIN_S = 3600.0
DRAIN_MAX_S = 86_400.0
RETRY_AFTER_S = 5
"""A state store that restarts is back within seconds."""
_STATES = {
    EndpointState.READY: admin_pb2.REPLICA_STATE_READY,
    EndpointState.SUSPECT: admin_pb2.REPLICA_STATE_SUSPECT,
    EndpointState.DRAINING: admin_pb2.REPLICA_STATE_DRAINING,
}
_OUTCOMES = {
    "decision": admin_pb2.EXPLAIN_OUTCOME_DECISION,
    "too-long": admin_pb2.EXPLAIN_OUTCOME_TOO_LONG,
    "no-endpoint": admin_pb2.EXPLAIN_OUTCOME_NO_ENDPOINT,
    "saturated": admin_pb2.EXPLAIN_OUTCOME_SATURATED,
}

M = TypeVar("M", bound=Message)
Answer = Callable[[M, Mapping[str, str], Identity], Awaitable[Message | Refusal]]


class AdminService:
    """Answers operators."""

    def __init__(self, gateway: Gateway, calls: Calls) -> None:
        self._gateway = gateway
        self._calls = calls

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Pools": self._registered(admin_pb2.PoolsRequest, self._pools),
                "Replicas": self._registered(admin_pb2.ReplicasRequest, self._replicas),
                "Explain": self._registered(admin_pb2.ExplainRequest, self._explain),
                "Drain": self._registered(admin_pb2.DrainRequest, self._drain),
            },
        )

    def _registered(self, kind: type[M], answer: Answer[M]) -> grpc.RpcMethodHandler:
        async def handle(_requests: object, context: Context) -> bytes:
            self._calls.begin(context)
            metadata = metadata_of(context)
            found = await self._answered(kind, answer, context, metadata)
            if isinstance(found, Refusal):
                await abort(context, found, request_id_of(metadata))
            return found.SerializeToString()

        return grpc.stream_unary_rpc_method_handler(handle)

    async def _answered(
        self, kind: type[M], answer: Answer[M], context: Context, metadata: Mapping[str, str]
    ) -> Message | Refusal:
        identity = identify(self._gateway, metadata, certificate_of(context))
        if isinstance(identity, Refusal):
            return identity
        if not self._gateway.access.authenticator.may_administer(identity):
            return not_admin()
        raw = await receive(context, self._gateway.current.catalog.config.gateway.limits.client_stall_s)
        request = raw if isinstance(raw, Refusal) else decode.parse(kind, raw)
        if isinstance(request, Refusal):
            return request
        try:
            return await answer(request, metadata, identity)
        except Exception:
            logger.exception("admin request failed")
            return internal()

    async def _pools(self, _request: admin_pb2.PoolsRequest, _metadata: object, _identity: object) -> Message:
        catalog, directory = self._gateway.current.catalog, self._gateway.directory
        states = directory.states(catalog)
        pools = [
            admin_pb2.Pool(
                name=pool.name,
                model=pool.model,
                max_context_tokens=pool.context_tokens,
                is_static=not pool.verifies,
                ready=states[pool.name][EndpointState.READY],
                suspect=states[pool.name][EndpointState.SUSPECT],
                draining=states[pool.name][EndpointState.DRAINING],
            )
            for model in catalog.models
            for pool in directory.pools(model)
        ]
        return admin_pb2.PoolsResponse(pools=pools, state_store_age_s=directory.age_s)

    async def _replicas(
        self, request: admin_pb2.ReplicasRequest, _metadata: object, _identity: object
    ) -> Message | Refusal:
        directory = self._gateway.directory
        if request.HasField("pool") and request.pool not in directory.states(self._gateway.current.catalog):
            return _no_such("pool", request.pool)
        drained = {lease.replica_id for lease in directory.leases().values() if lease.is_drained}
        replicas = [
            admin_pb2.Replica(
                id=member.endpoint.replica_id,
                pool=member.endpoint.pool,
                url=member.endpoint.url,
                state=_STATES[state_of(member)],
                running=member.endpoint.running,
                waiting=member.endpoint.waiting,
                max_running=member.endpoint.capacity or None,
                kv_use_ratio=member.endpoint.kv_use_ratio,
                prefill_tokens=member.endpoint.prefill_tokens,
                is_drained_by_operator=member.endpoint.replica_id in drained,
            )
            for member in sorted(
                directory.table.members(), key=lambda one: (one.endpoint.pool, one.endpoint.replica_id)
            )
            if not request.HasField("pool") or member.endpoint.pool == request.pool
        ]
        return admin_pb2.ReplicasResponse(replicas=replicas)

    async def _explain(
        self, request: admin_pb2.ExplainRequest, metadata: Mapping[str, str], identity: Identity
    ) -> Message | Refusal:
        request_id = request_id_of(metadata)
        match request.WhichOneof("request"):
            case "chat":
                decoded = decode.request_of(Route.CHAT, request.chat, decode.chat_body, request_id)
            case "complete":
                decoded = decode.request_of(Route.COMPLETIONS, request.complete, decode.complete_body, request_id)
            case _:
                return invalid("chat or complete is required.", param="request", code="missing_required_parameter")
        if isinstance(decoded, Refusal):
            return decoded
        ask = ask_of(self._gateway, decoded, metadata, identity, self._gateway.clock())
        if isinstance(ask, Refusal):
            return ask
        found = await self._gateway.dispatcher.explain(ask)
        if isinstance(found, (UnknownModel, OverCap)):
            return from_outcome(found, decoded.route, output_field_of(decoded.route, decoded.body))
        told = explain(found)
        response = admin_pb2.ExplainResponse(outcome=_OUTCOMES[told["outcome"]], explanation=json.dumps(told))
        if isinstance(found, Decision):
            first = found.first
            response.pool, response.replica = first.endpoint.pool, first.endpoint.replica_id
            response.reason = first.reason
        return response

    async def _drain(self, request: admin_pb2.DrainRequest, _metadata: object, identity: Identity) -> Message | Refusal:
        directory, replica_id = self._gateway.directory, ReplicaId(request.replica)
        for_s = request.for_s if request.HasField("for_s") else DRAIN_S
        if not request.undo and not 0 < for_s <= DRAIN_MAX_S:
            return invalid(
                f"for_s must be over 0 and at most {DRAIN_MAX_S:,.0f} (given: {for_s:g}).",
                param="for_s",
                code="invalid_value",
            )
        lease = directory.leases().get(replica_id)
        if lease is None and replica_id in directory.table.replica_ids():
            return invalid(
                f"{request.replica} is an endpoint that the configuration lists: take it out there.",
                param="replica",
                code="invalid_value",
            )
        if lease is None:
            return _no_such("replica", request.replica)
        try:
            await directory.drain(replica_id, None if request.undo else for_s)
        except (RedisError, OSError):
            return Refusal(
                status=503,
                message="The state store does not answer, and without it other gateways would not hear of the drain.",
                type=SERVER_ERROR,
                code="state_store_away",
                retry_after_s=RETRY_AFTER_S,
            )
        verb = "given work again" if request.undo else "drained"
        logger.info(
            "replica %s", verb, extra={"replica": replica_id, "tenant": identity.tenant.name, "key": identity.key_id}
        )
        return admin_pb2.DrainResponse(unfinished=lease.running + lease.waiting)


def _no_such(kind: str, name: str) -> Refusal:
    return Refusal(
        status=404,
        message=f"There is no {kind} {name[:128]!r} here.",
        type=NOT_FOUND,
        param=kind,
        code=f"{kind}_not_found",
    )
