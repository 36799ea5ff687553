"""From keyword arguments to what is sent: the request message, and the metadata beside it.

What must not live here: sending, judging values (the gateway does).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from google.protobuf.message import Message

from cluster.core.errors import SetupError
from cluster.core.wire import HEADER_IDEMPOTENCY_KEY, HEADER_PRIORITY, HEADER_REQUEST_ID, HEADER_SESSION
from services.grpc.generated.longreach.v1 import common_pb2

M = TypeVar("M", bound=Message)
PROMPT_FIELDS = ("prompts", "inputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What every call takes beside its request's fields."""

    timeout_s: float | None = None
    """From the call to the end of its answer, tries and waits together; None: the client's."""
    request_id: str | None = None
    """For the gateway's logs; None: a new one."""
    priority: str | None = None
    """high, normal or low."""
    session: str | None = None
    """Requests of one session go to one replica where that costs little."""
    idempotency_key: str | None = None
    """Calls with the same key are one, for some minutes: one that is made again joins the first or gets its answer."""
    traceparent: str | None = None
    """W3C trace context."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Further metadata, by lower-case name."""


OPTIONS = frozenset(option.name for option in fields(CallOptions))


def options_in(arguments: Mapping[str, Any]) -> CallOptions:
    """The options among a call's arguments; one that is None counts as not given."""
    return CallOptions(**{name: value for name, value in arguments.items() if name in OPTIONS and value is not None})


def message_in(kind: type[M], arguments: Mapping[str, Any]) -> M:
    """The request in a call's arguments.

    A message inside may be given as a dict, a prompt as its text or its token ids; None counts as not given.

    Raises:
        ValueError: the message has no such field, or the value is out of its range.
        TypeError: the value is of another type.
    """
    told = {name: value for name, value in arguments.items() if name not in OPTIONS}
    for name in PROMPT_FIELDS:
        if told.get(name) is not None:
            given = told[name]
            told[name] = [_prompt(one) for one in ([given] if isinstance(given, str) else given)]
    return kind(**told)


def metadata_of(options: CallOptions, *, api_key: str | None, request_id: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call.

    Raises:
        SetupError: a value cannot travel; what it is is not said, for it may be a secret.
    """
    told: dict[str, str | None] = {
        "authorization": f"Bearer {api_key}" if api_key else None,
        HEADER_REQUEST_ID: request_id,
        HEADER_PRIORITY: options.priority,
        HEADER_SESSION: options.session,
        HEADER_IDEMPOTENCY_KEY: options.idempotency_key,
        "traceparent": options.traceparent,
        **options.metadata,
    }
    metadata = tuple((name, value) for name, value in told.items() if value is not None)
    for name, value in metadata:
        if not (value.isascii() and value.isprintable()):
            raise SetupError(f"{name} has characters that metadata cannot carry", "use printable ASCII only")
    return metadata


def _prompt(given: Any) -> Any:
    """A prompt from its text or token ids; a message or a dict is left as it is."""
    if isinstance(given, str):
        return common_pb2.Prompt(text=given)
    if isinstance(given, (Message, Mapping)):
        return given
    return common_pb2.Prompt(token_ids=common_pb2.TokenIds(ids=given))
