"""The admin listener of a gateway with several workers: metrics of all of them, everything else from one.

Who may ask is checked by the workers, since the request's headers go on to them. Only the parent's own looks at their
counts, which nobody asked for, show a token that parent and workers share. What must not live here: processes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from services.gateway.exposition import Snapshot, merge
from services.http1.answer import HttpDate, head
from services.http1.asgi import AsgiBridge
from services.http1.exchange import Exchange, Fault
from services.http1.request import HttpRequest

logger = logging.getLogger(__name__)

WORKER_TIMEOUT_S = 10.0
"""A worker answers in milliseconds; one that does not is busy with a very long prompt, or gone."""
REMEMBER_TIMEOUT_S = 2.0
"""The parent watches its workers in between; the next look comes soon."""
ANSWER_BYTES_MAX = 64 * 2**20
REMEMBER_EVERY = 25
"""Turns of the parent's watch between two looks at the workers' counts: what a killed worker counted since is lost to
the metrics (usage has a journal of its own)."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SNAPSHOT_PATH = "/snapshot"
PARENT_HEADER = "x-longreach-parent"
PATH_SAFE = "/~!$&'()*+,;=:@"
"""What a path may hold as it is (RFC 3986, 3.3)."""
NOT_RELAYED = frozenset({b"connection", b"content-length", PARENT_HEADER.encode()})
OK = 200


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class AdminRelay:
    """A `services.http1` handler that asks workers."""

    def __init__(self, sockets: Callable[[], list[Path]], retired: list[Snapshot], token: str) -> None:
        """Prepare.

        Args:
            sockets: where the workers that live serve their admin routes.
            retired: counts of workers that have ended.
            token: what workers know their parent by.
        """
        self._sockets = sockets
        self._own_headers = [(PARENT_HEADER.encode(), token.encode())]
        self._retired = retired
        self._seen: dict[Path, Snapshot] = {}
        self._turns = 0
        self._date = HttpDate()
        self._bridge = AsgiBridge(self._app, self._date)

    def __call__(self, request: HttpRequest, exchange: Exchange) -> None:
        """Begin to answer one request."""
        self._bridge(request, exchange)

    def fault(self, fault: Fault, request: HttpRequest | None) -> bytes:  # noqa: ARG002 - all faults look alike here
        """The answer to what is not HTTP, or over its limits."""
        body = fault.message.encode()
        headers = [("content-type", "text/plain"), ("content-length", str(len(body))), ("connection", "close")]
        return head(fault.status, headers, self._date.line()) + body

    async def remember(self) -> None:
        """Keep every worker's counts now and then, for the day it dies."""
        self._turns += 1
        if self._turns % REMEMBER_EVERY == 0:
            paths = self._sockets()
            asked = (
                _ask(path, "GET", SNAPSHOT_PATH, self._own_headers, b"", timeout_s=REMEMBER_TIMEOUT_S) for path in paths
            )
            for path, answer in zip(paths, await asyncio.gather(*asked), strict=True):
                self._note(path, answer)

    def retire(self, path: Path) -> None:
        """The worker at `path` has ended; its counts stay in the sum."""
        snapshot = self._seen.pop(path, None)
        if snapshot is not None:
            self._retired.append(snapshot.retired())

    async def _app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        body = (await receive()).get("body", b"")
        headers = [(name, value) for name, value in scope["headers"] if name not in NOT_RELAYED]
        if scope["path"] == "/metrics" and scope["method"] == "GET":
            answer = await self._metrics(headers)
        else:
            query = scope["query_string"].decode("latin-1")
            target = quote(scope["path"], safe=PATH_SAFE) + (f"?{query}" if query else "")
            answer = await self._one(scope["method"], target, headers, body)
        await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
        await send({"type": "http.response.body", "body": answer.body})

    async def _one(self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes) -> _Answer:
        for path in self._sockets():
            answer = await _ask(path, method, target, headers, body)
            if answer is not None:
                return answer
        return _Answer(503, ((b"content-type", b"text/plain"),), b"no worker answers\n")

    async def _metrics(self, headers: list[tuple[bytes, bytes]]) -> _Answer:
        paths = self._sockets()
        answers = await asyncio.gather(*(_ask(path, "GET", SNAPSHOT_PATH, headers, b"") for path in paths))
        refused = next((answer for answer in answers if answer is not None and answer.status != OK), None)
        if refused is not None:
            return refused
        for path, answer in zip(paths, answers, strict=True):
            self._note(path, answer)
        known = [self._seen[path] for path in paths if path in self._seen]
        return _Answer(OK, ((b"content-type", METRICS_TYPE.encode()),), merge([*known, *self._retired]))

    def _note(self, path: Path, answer: _Answer | None) -> None:
        if answer is not None and answer.status == OK:
            self._seen[path] = Snapshot.decode(answer.body)


async def _ask(
    path: Path,
    method: str,
    target: str,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    *,
    timeout_s: float = WORKER_TIMEOUT_S,
) -> _Answer | None:
    """One request to a worker; None when it does not answer."""
    lines = b"".join(b"%b: %b\r\n" % item for item in headers)
    framing = f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(f"{method} {target} HTTP/1.1\r\n".encode("latin-1") + lines + framing + body)
                raw = await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    top, found, payload = raw[:ANSWER_BYTES_MAX].partition(b"\r\n\r\n")
    first, *rest = top.split(b"\r\n")
    if not found or not first.startswith(b"HTTP/1.1 "):
        return None
    pairs = [line.partition(b": ") for line in rest]
    kept = tuple((name, value) for name, _, value in pairs if name.lower() not in {b"connection", b"date"})
    return _Answer(int(first[9:12]), kept, payload)
