"""From an HTTP request to the core's `InferenceRequest`, or to the refusal that says what is wrong with it.

Wire types end here. What must not live here: anything about models, pools or replicas.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from cluster.core.request import InferenceRequest, RequestId, Route
from cluster.core.wire import HEADER_REQUEST_ID, requested_output_tokens
from services.api.prompts import NotAPromptError, prompt_of
from services.api.refusals import Refusal, invalid
from services.api.schema import BODIES
from services.api.strict_json import NotStrictJsonError, parse_object, parse_quickly

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
MAX_VALUE_SHOWN = 64
"""Characters of a wrong value that the answer repeats."""


def request_id_of(headers: Mapping[str, str]) -> RequestId:
    """The client's own request id where it is harmless in headers and logs, else a new one."""
    given = headers.get(HEADER_REQUEST_ID)
    if given is not None and _REQUEST_ID.fullmatch(given):
        return RequestId(given)
    # It has to be unique and is no secret: the kernel's randomness costs a system call, this is seeded with it once.
    return RequestId("req-%032x" % random.getrandbits(128))  # noqa: UP031 - f-strings take longer


def decode(route: Route, raw: bytes, request_id: RequestId) -> InferenceRequest | Refusal:
    """Read a body; never raises on any bytes."""
    body = parse_quickly(raw)
    if body is not None:
        request = read_body(route, raw, body, request_id)
        if not isinstance(request, Refusal):
            return request
    # In doubt, or refused: the careful reader's value is what a refusal must rest on.
    try:
        body = parse_object(raw)
    except NotStrictJsonError as error:
        return invalid(str(error), param=error.key, code="invalid_json")
    return read_body(route, raw, body, request_id)


def read_body(route: Route, raw: bytes, body: dict[str, Any], request_id: RequestId) -> InferenceRequest | Refusal:
    """The request in a body that was parsed, whichever API it came by.

    Args:
        route: what is asked.
        raw: the body as an engine should see it.
        body: the same, parsed.
        request_id: of the request.
    """
    try:
        BODIES[route].__pydantic_validator__.validate_python(body)
    except ValidationError as error:
        return _wrong_field(error)
    refusal = _unsupported(route, body)
    if refusal is not None:
        return refusal
    try:
        prompt = prompt_of(route, body)
    except NotAPromptError as error:
        return invalid(str(error), param=error.field, code="invalid_value")
    return InferenceRequest(
        request_id=request_id,
        route=route,
        model=body["model"],
        body=raw,
        stream=body.get("stream") is True,
        requested_output_tokens=requested_output_tokens(route, body) if route.generates else None,
        prompt=prompt,
        truncate_prompt_tokens=body.get("truncate_prompt_tokens"),
        given=frozenset([key for key, value in body.items() if value is not None]),
        wants_usage=_wants_usage(body),
        priority=body.get("priority"),
    )


def _wants_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def output_field_of(route: Route, raw: bytes) -> str:
    """The field in which this client bounds its output, for sentences about it."""
    if route is Route.CHAT and b'"max_completion_tokens"' not in raw:
        return "max_tokens"
    return route.output_field


def _unsupported(route: Route, body: Mapping[str, Any]) -> Refusal | None:
    """Things an engine would take and that cannot work across replicas, or would end in no answer."""
    if route is Route.RESPONSES:
        for field in ("previous_response_id", "conversation"):
            if body.get(field):
                return invalid(
                    f"{field} is not supported: earlier responses live in the memory of one replica, and the next "
                    f"request may go to another. Send the whole conversation in `input`.",
                    param=field,
                    code="unsupported_parameter",
                )
        if body.get("background"):
            return invalid(
                "background is not supported: its result would live in the memory of one replica. Use `stream`.",
                param="background",
                code="unsupported_parameter",
            )
    if route is Route.COMPLETIONS and body.get("max_tokens") == 0 and not body.get("echo"):
        return invalid("max_tokens must be at least 1 (0 only with echo).", param="max_tokens", code="invalid_value")
    return None


def _wrong_field(error: ValidationError) -> Refusal:
    """The first mistake, by its field; a union's other branches would only confuse."""
    mistakes = error.errors(include_url=False, include_context=False)
    item = mistakes[0]
    location = tuple(step for step in item["loc"] if not _is_branch(step))
    field = _dotted(location)
    if item["type"] == "missing":
        return invalid(f"{field} is required.", param=field, code="missing_required_parameter")
    return invalid(f"{field}: {_sentence(item['msg'])}{_shown(item['input'])}", param=field, code="invalid_value")


def _is_branch(step: int | str) -> bool:
    """Whether a step of a location names a branch of a union instead of a field."""
    return isinstance(step, str) and (
        "[" in step or step in {"str", "int", "float", "bool", "constrained-str"} or step.startswith("function-")
    )


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:]


def _shown(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float)):
        return f" (given: {str(value)[:MAX_VALUE_SHOWN]}).".replace("True", "true").replace("False", "false")
    if isinstance(value, str):
        return " (given: a string)." if len(value) > MAX_VALUE_SHOWN else f" (given: {value!r})."
    return f" (given: {'an object' if isinstance(value, dict) else 'a list'})."
