"""What counts as a change of a watched file."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cluster.config import parse_config
from services.gateway.watching import COMPARED_BYTES_MAX, FileWatch, contents, watched_files
from tests.gateway_harness import TWO_POOLS


def test_content_counts_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert contents([file]) == {file: ""}
    file.write_text("a")
    before = contents([file])
    replaced = tmp_path / "b"
    replaced.write_text("a")
    replaced.replace(file)
    assert contents([file]) == before
    file.write_text("b")
    assert contents([file]) != before


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    with file.open("wb") as opened:
        opened.truncate(2**34)
    before = contents([file])
    with file.open("r+b") as opened:
        opened.seek(COMPARED_BYTES_MAX)
        opened.write(b"x")
    assert contents([file]) == before
    with file.open("r+b") as opened:
        opened.truncate(2**34 + 1)
    assert contents([file]) != before


def test_the_files_of_a_configuration(tmp_path: Path) -> None:
    tls = "gateway: {tls: {cert_file: /c, key_file: /k, client_ca_file: /a}}"
    path = tmp_path / "c.yaml"
    assert watched_files(path, parse_config(TWO_POOLS)) == (path,)
    assert watched_files(path, parse_config(TWO_POOLS + tls)) == (path, Path("/c"), Path("/k"), Path("/a"))


async def test_each_change_is_told_once_and_one_before_the_first_look_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    seen, calls = contents([file]), asyncio.Queue[str]()
    watch = FileWatch(lambda: [file], lambda: calls.put_nowait(file.read_text()), seen=seen, poll_s=0.01)
    file.write_text("2")
    following = asyncio.create_task(watch.follow())
    async with asyncio.timeout(10):
        assert await calls.get() == "2"
        file.write_text("3")
        assert await calls.get() == "3"
    following.cancel()
    assert calls.empty()
