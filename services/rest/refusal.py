"""A refusal as the bytes of a whole answer.

What must not live here: which refusal (errors.py).
"""

from __future__ import annotations

from cluster.core.request import Route
from cluster.core.wire import HEADER_REQUEST_ID
from services.http1.answer import HttpDate, head
from services.rest.errors import Refusal


def refusal_bytes(refusal: Refusal, route: Route | None, request_id: str, date: HttpDate, *, keep_alive: bool) -> bytes:
    """A whole answer that is an error."""
    body = refusal.body(route, request_id)
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        (HEADER_REQUEST_ID, request_id),
        *refusal.all_headers().items(),
    ]
    if not keep_alive:
        headers.append(("connection", "close"))
    return head(refusal.status, headers, date.line()) + body
