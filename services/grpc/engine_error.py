"""An engine's own error answer, as a refusal.

What must not live here: refusals of the gateway (services/api/refusals.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

from services.api.refusals import INVALID_REQUEST, SERVER_ERROR, Refusal

CODE = "engine_refused"
"""Where the engine names no code of its own; vLLM's is the HTTP status again."""
MESSAGE_CHARS_MAX = 1000
"""A status travels in headers, which clients bound."""
_LEAST_ERROR = 400


def refusal_of(status: int, body: bytes) -> Refusal:
    """The refusal in an answer with an error status."""
    try:
        told = orjson.loads(body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        text = body[:MESSAGE_CHARS_MAX].decode(errors="replace").strip()
        return _refusal(status, text, {})
    return refusal_in(told, status)


def refusal_in(told: Mapping[str, Any], status: int) -> Refusal:
    """The refusal in an error object as OpenAI's API has it.

    Args:
        told: the object around `error`; some put message and code there directly, and starlette a `detail`.
        status: HTTP's, where the object names none.
    """
    error = told.get("error")
    if isinstance(error, str):
        return _refusal(status, error, {})
    if not isinstance(error, dict):
        error = told
    code = error.get("code")
    if isinstance(code, int) and _LEAST_ERROR <= code < 600:  # noqa: PLR2004 - HTTP's statuses end there
        status = code
    return _refusal(status, str(error.get("message") or error.get("detail") or ""), error)


def unusable() -> Refusal:
    """An answer that is none."""
    return Refusal(
        status=502,
        message="The engine's answer is not in the form of OpenAI's API.",
        type=SERVER_ERROR,
        code="upstream_unusable",
    )


def _refusal(status: int, message: str, error: Mapping[str, Any]) -> Refusal:
    is_clients = status < HTTPStatus.INTERNAL_SERVER_ERROR
    code, param, kind = error.get("code"), error.get("param"), error.get("type")
    return Refusal(
        status=status,
        message=message[:MESSAGE_CHARS_MAX] or f"The engine answered with status {status}.",
        type=kind if isinstance(kind, str) else INVALID_REQUEST if is_clients else SERVER_ERROR,
        param=param if isinstance(param, str) else None,
        code=code if isinstance(code, str) else CODE,
    )
