"""The Inference service: what gRPC adds to the conduct that REST shares.

Messages come and go as bytes, so that what is wrong with them is said in this API's own words. What must not live
here: the request's way through the gateway (services/api/conduct.py), messages' contents (decode.py, encode.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import grpc
import orjson
from google.protobuf.message import Message

from cluster.config import LimitsSection
from cluster.core.request import InferenceRequest, RequestId, Route
from services.api.account import Account, Answering, Api, Ending
from services.api.conduct import Conduct
from services.api.decode import request_id_of
from services.api.gateway import Gateway
from services.api.refusals import Refusal, broken, expired, internal, unread
from services.api.repeats import Told
from services.api.sender import identify
from services.grpc import decode, encode
from services.grpc.calls import Calls, Context, abort, certificate_of, metadata_of, receive
from services.grpc.delivery import ERROR_STATUS, StreamDelivery, WholeDelivery, is_stream
from services.grpc.deltas import ChatEncoder, CompleteEncoder, StreamEncoder
from services.grpc.engine_error import refusal_of, unusable
from services.grpc.generated.longreach.v1 import chat_pb2, complete_pb2, inference_pb2

logger = logging.getLogger(__name__)

SERVICE = "longreach.v1.Inference"
GZIP_LEAST_BYTES = 1024
"""Below it, gzip's own header and the time outweigh what is saved."""


class _Method(NamedTuple):
    """One method of the service: what it takes, what that is in REST, what it answers."""

    route: Route
    takes: type[Message]
    body_of: Callable[[Any], dict[str, Any]]
    answer: Callable[[Mapping[str, Any]], Message] | None = None
    """Of methods that answer whole."""
    encoder: type[StreamEncoder] | None = None
    """Of methods that stream."""


_METHODS = {
    "Chat": _Method(Route.CHAT, chat_pb2.ChatRequest, decode.chat_body, encode.chat_response),
    "ChatStream": _Method(Route.CHAT, chat_pb2.ChatRequest, decode.chat_body, encoder=ChatEncoder),
    "Complete": _Method(
        Route.COMPLETIONS, complete_pb2.CompleteRequest, decode.complete_body, encode.complete_response
    ),
    "CompleteStream": _Method(
        Route.COMPLETIONS, complete_pb2.CompleteRequest, decode.complete_body, encoder=CompleteEncoder
    ),
    "Embed": _Method(Route.EMBEDDINGS, inference_pb2.EmbedRequest, decode.embed_body, encode.embed_response),
    "Tokenize": _Method(Route.TOKENIZE, inference_pb2.TokenizeRequest, decode.tokenize_body, encode.tokenize_response),
    "CountTokens": _Method(
        Route.TOKENIZE, inference_pb2.CountTokensRequest, decode.tokenize_body, encode.count_response
    ),
    "Detokenize": _Method(
        Route.DETOKENIZE, inference_pb2.DetokenizeRequest, decode.detokenize_body, encode.detokenize_response
    ),
}


class InferenceService:
    """Answers inference requests."""

    def __init__(self, gateway: Gateway, conduct: Conduct, calls: Calls) -> None:
        self._gateway = gateway
        self._conduct = conduct
        self._calls = calls

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        handlers = {name: self._registered(method) for name, method in _METHODS.items()}
        handlers["ListModels"] = grpc.stream_unary_rpc_method_handler(self._list_models)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _registered(self, method: _Method) -> grpc.RpcMethodHandler:
        async def handle(_requests: object, context: Context) -> bytes | None:
            return await self._handle(method, context)

        if method.encoder is not None:
            return grpc.stream_stream_rpc_method_handler(handle)
        return grpc.stream_unary_rpc_method_handler(handle)

    async def _list_models(self, _requests: object, context: Context) -> bytes:
        self._calls.begin(context)
        metadata = metadata_of(context)
        identity = identify(self._gateway, metadata, certificate_of(context))
        raw = identity if isinstance(identity, Refusal) else await receive(context, self._limits().client_stall_s)
        request = raw if isinstance(raw, Refusal) else decode.parse(inference_pb2.ListModelsRequest, raw)
        if isinstance(request, Refusal):
            await abort(context, request, request_id_of(metadata))
        return encode.models_response(self._gateway).SerializeToString()

    async def _handle(self, method: _Method, context: Context) -> bytes | None:
        self._calls.begin(context)
        metadata = metadata_of(context)
        account = Account(request_id_of(metadata), method.route, self._gateway.clock(), Api.GRPC)
        answer: bytes | Refusal | None = self._conduct.admit(account, metadata, certificate_of(context))
        if isinstance(answer, Refusal):
            account.refused(answer)
            self._conduct.books.refused(account)
            await abort(context, answer, account.request_id)
        self._conduct.begin()
        try:
            answer = await self._serve(method, context, account, metadata)
        except asyncio.CancelledError:
            account.ending = Ending.CLIENT_GONE
            if account.delivery is None or not account.delivery.is_client_gone:
                raise
            # The client is there and reads nothing: it is told so, if it ever reads on.
            _go_on()
            answer = unread(self._limits().idle_s)
        except grpc.aio.InternalError:
            # What could not be sent has no reader any more; gRPC would log a cancelled call as a fault.
            account.ending = Ending.CLIENT_GONE
            raise asyncio.CancelledError from None
        except Exception:
            logger.exception("request failed", extra=account.log_fields)
            answer = internal()
            if account.status:
                account.ending = Ending.BROKEN
            else:
                account.refused(answer)
        finally:
            self._conduct.end(account)
        if isinstance(answer, Refusal):
            await abort(context, answer, account.request_id)
        return answer

    async def _serve(
        self, method: _Method, context: Context, account: Account, metadata: Mapping[str, str]
    ) -> bytes | Refusal | None:
        """A whole answer's message; None where all of a stream was sent."""
        raw = await receive(context, self._limits().client_stall_s)
        account.started_s = self._gateway.clock()
        request = raw if isinstance(raw, Refusal) else _decoded(method, raw, account.request_id)
        if isinstance(request, Refusal):
            account.refused(request)
            return request
        way = _Way(method, context, self._limits().idle_s)
        refusal = await self._conduct.serve(account, request, metadata, way.deliver, left_s=context.time_remaining())
        if refusal is not None:
            account.refused(refusal)
            return refusal
        delivery = way.delivery
        if delivery.broken is not None:
            return expired(account.limit_s) if account.is_expired else broken(delivery.broken)
        if isinstance(delivery, StreamDelivery):
            if delivery.error is not None:
                account.broke_off(delivery.error)
            return delivery.error
        message = self._whole(method, delivery, account)
        if isinstance(message, bytes) and len(message) >= GZIP_LEAST_BYTES and self._compresses():
            context.set_compression(grpc.Compression.Gzip)
        await context.send_initial_metadata(way.told)
        return message

    def _whole(self, method: _Method, delivery: WholeDelivery, account: Account) -> bytes | Refusal:
        """The message of an answer that is no stream."""
        if account.status >= ERROR_STATUS:
            return refusal_of(account.status, delivery.body)
        if method.answer is None:  # a stream was asked for
            account.ending = Ending.BROKEN
            return unusable()
        try:
            return method.answer(orjson.loads(delivery.body)).SerializeToString()
        except (ValueError, LookupError, TypeError, AttributeError):
            logger.warning("an engine's answer has another form", extra=account.log_fields)
            account.ending = Ending.BROKEN
            return unusable()

    def _limits(self) -> LimitsSection:
        return self._gateway.current.catalog.config.gateway.limits

    def _compresses(self) -> bool:
        return self._gateway.current.catalog.config.gateway.grpc.gzip_answers


class _Way:
    """How one request's answer goes to its client."""

    def __init__(self, method: _Method, context: Context, unread_s: float) -> None:
        self._method = method
        self._context = context
        self._unread_s = unread_s
        self.told: Told = ()
        """Initial metadata."""
        self.delivery: StreamDelivery | WholeDelivery

    def deliver(self, answering: Answering, told: Told) -> StreamDelivery | WholeDelivery:
        """The delivery of an answer that has begun."""
        method = self._method
        self.told = told
        if method.encoder is not None and is_stream(answering):
            self.delivery = StreamDelivery(
                answering, method.route, method.encoder(), call=self._context, metadata=told, unread_s=self._unread_s
            )
        else:
            self.delivery = WholeDelivery(answering)
        return self.delivery


def _decoded(method: _Method, raw: bytes, request_id: RequestId) -> InferenceRequest | Refusal:
    message = decode.parse(method.takes, raw)
    if isinstance(message, Refusal):
        return message
    return decode.request_of(method.route, message, method.body_of, request_id, streams=method.encoder is not None)


def _go_on() -> None:
    """Take a cancellation of our own back."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()
