"""Small answers of endpoints, fetched whole and never larger than the asker can bear.

What must not live here: what a page means, answers to clients (services/rest/relay.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from services.gateway.upstream import HttpUpstream, UpstreamFailure
from services.http1.client import FailureKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An answer, whole."""

    status: int
    content_type: str
    body: bytes


async def fetch(
    upstream: HttpUpstream, url: str, path: str, headers: Mapping[str, str], *, timeout_s: float, bytes_max: int
) -> Page | UpstreamFailure:
    """GET a page.

    Args:
        upstream: whose connections are used.
        url: of the endpoint.
        path: below it.
        headers: besides the host.
        timeout_s: for all of it.
        bytes_max: of the body; more is a failure.
    """
    try:
        async with asyncio.timeout(timeout_s):
            answer = await upstream.get(url, path, headers, timeout_s)
            if isinstance(answer, UpstreamFailure):
                return answer
            reader = _PageReader(bytes_max)
            try:
                answer.read(reader)
                body = await reader.done
            finally:
                answer.close()
    except TimeoutError:
        return UpstreamFailure(kind=FailureKind.TIMEOUT, detail=f"no whole answer within {timeout_s:g} s")
    if isinstance(body, UpstreamFailure):
        return body
    return Page(status=answer.status, content_type=answer.headers.get("content-type", ""), body=body)


class _PageReader:
    """Gathers an answer; one that grows too large is given up."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._bytes = 0
        self.done: asyncio.Future[bytes | UpstreamFailure] = asyncio.get_running_loop().create_future()

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """As `AnswerReader.data`."""
        if self.done.done():
            return
        self._bytes += len(payload)
        if self._bytes > self._bytes_max:
            self._pieces.clear()
            detail = f"the answer is larger than {self._bytes_max} bytes"
            self.done.set_result(UpstreamFailure(kind=FailureKind.RESET, detail=detail))
            return
        self._pieces.append(payload)
        if is_last:
            self.done.set_result(b"".join(self._pieces))

    def broke_off(self, failure: UpstreamFailure) -> None:
        """As `AnswerReader.broke_off`."""
        if not self.done.done():
            self.done.set_result(failure)
