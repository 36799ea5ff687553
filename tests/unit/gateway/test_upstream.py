"""One answer of an endpoint, and the connection that it came over."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from services.gateway.upstream import FailureKind, UpstreamAnswer
from services.http1.client import ClientConnection


class Connection:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    def abandon(self) -> None:
        self.asked.append("abandon")


def answer_over(connection: Connection) -> UpstreamAnswer:
    first = asyncio.get_running_loop().create_future()
    return UpstreamAnswer(cast("ClientConnection", connection), first)


async def test_an_answer_under_way_waits_and_goes_on() -> None:
    connection = Connection()
    answer = answer_over(connection)
    answer.data(b"begun", is_last=False)
    answer.pause()
    answer.resume()
    answer.close()
    assert connection.asked == ["pause", "resume", "abandon"]


@pytest.mark.parametrize("end", ["complete", "broken"])
async def test_an_answer_that_is_through_leaves_its_connection_to_others(end: str) -> None:
    connection = Connection()
    answer = answer_over(connection)
    if end == "complete":
        answer.data(b"all", is_last=True)
    else:
        answer.broken(FailureKind.RESET, "gone")
    answer.pause()
    answer.resume()
    answer.close()
    assert connection.asked == []
