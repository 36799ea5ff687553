"""Access lines: the form of logs.py, safe quoting, whole lines in few writes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import access_log
from services.gateway.access_log import AccessLog
from services.gateway.logs import ACCESS_LOGGER, JsonFormatter, TextFormatter

CREATED_S = 1_795_000_000.25
FIELDS: dict[str, Any] = {
    "request_id": "req-1",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "route": "chat/completions",
    "api": "rest",
    "status": 200,
    "ending": "ok",
    "tenant": "acme",
    "key": "k1",
    "model": "demo",
    "pool": "short",
    "replica": "r-1",
    "attempts": 1,
    "prompt_tokens": 34,
    "predicted_tokens": 12,
    "cached_tokens": 16,
    "output_tokens": 5,
    "first_byte_ms": 31.2,
    "ms": 510.0,
    "bytes": 1234,
}
TEXTS = st.text(st.characters(codec=None), max_size=40)
WORDS = st.sampled_from([None, "short", "a pool"])
NUMBERS = st.none() | st.integers(0, 2**53)
CHANGED = st.fixed_dictionaries(
    {
        "request_id": TEXTS,
        "model": TEXTS,
        "tenant": WORDS,
        "key": WORDS,
        "pool": WORDS,
        "replica": WORDS,
        "prompt_tokens": NUMBERS,
        "predicted_tokens": NUMBERS,
        "cached_tokens": NUMBERS,
        "output_tokens": NUMBERS,
        "first_byte_ms": st.none() | st.integers(0, 10**7).map(lambda tenths: tenths / 10),
    }
)


class Loop:
    """Callbacks of an event loop, run by hand."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.later: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, _delay_s: float, callback: Callable[[], None]) -> None:
        self.later.append(callback)

    def turn(self) -> None:
        callbacks, self.soon, self.later = self.soon + self.later, [], []
        for callback in callbacks:
            callback()


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    logger = logging.getLogger(ACCESS_LOGGER)
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(logging.NOTSET)


def opened(descriptor: int, loop: Loop, *, is_json: bool = False) -> AccessLog:
    return AccessLog(
        is_json=is_json,
        call_soon=loop.call_soon,
        call_later=loop.call_later,
        clock=lambda: CREATED_S,
        descriptor=descriptor,
    )


def write(log: AccessLog, **changed: Any) -> None:
    fields = {**FIELDS, **changed}
    first_byte_ms = fields.pop("first_byte_ms")
    log.write(
        fields.pop("request_id"),
        fields.pop("trace_id"),
        fields.pop("route"),
        fields.pop("api"),
        first_byte_s=None if first_byte_ms is None else first_byte_ms / 1000,
        seconds=fields.pop("ms") / 1000,
        sent_bytes=fields.pop("bytes"),
        **fields,
    )


def logged(*, is_json: bool, **changed: Any) -> str:
    """The same line by way of `logging`."""
    record = logging.LogRecord(ACCESS_LOGGER, logging.INFO, "", 0, "request", (), None)
    record.created, record.msecs = CREATED_S, 250.0
    vars(record).update({name: "-" if value is None else value for name, value in {**FIELDS, **changed}.items()})
    return (JsonFormatter() if is_json else TextFormatter()).format(record)


@pytest.mark.parametrize("is_json", [False, True])
@given(changed=CHANGED)
def test_lines_are_those_of_logging(
    tmp_path_factory: pytest.TempPathFactory,
    is_json: bool,
    changed: dict[str, Any],
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    with path.open("wb") as file:
        log = opened(file.fileno(), Loop(), is_json=is_json)
        write(log, **changed)
        write(log, **changed)
        log.close()
    line = logged(is_json=is_json, **changed).encode("utf-8", "backslashreplace").decode()
    assert path.read_text(encoding="utf-8") == f"{line}\n{line}\n"
    if is_json:
        assert json.loads(line)["model"] == changed["model"]


def test_a_client_cannot_start_a_line_nor_fill_one(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = opened(file.fileno(), Loop())
        write(log, model="x\n2026-01-01T00:00:00.000Z INFO request status=200", request_id='"\u2028\x1b[31m')
        write(log, model="m" * 100_000)
        log.close()
    lines = (tmp_path / "log").read_text().split("\n")
    assert len(lines) == 3
    assert "\x1b" not in lines[0]
    assert len(lines[1]) < 700


def test_one_write_a_turn_and_one_a_full_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    real = os.write
    loop = Loop()
    with (tmp_path / "log").open("wb") as file:
        log = opened(file.fileno(), loop)
        monkeypatch.setattr(os, "write", lambda fd, text: writes.append(len(text)) or real(fd, text))
        for _ in range(20):
            write(log)
        assert writes == []
        loop.turn()
        assert len(writes) == 1
        while len(writes) == 1:
            write(log)
        assert access_log.BATCH_BYTES <= writes[1] < access_log.BATCH_BYTES + 1000
        loop.turn()
        assert len(writes) == 2


def test_the_log_level_counts_as_it_is_now(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = opened(file.fileno(), Loop())
        logging.getLogger(ACCESS_LOGGER).setLevel(logging.WARNING)
        write(log)
        assert not log.is_on
        logging.getLogger(ACCESS_LOGGER).setLevel(logging.INFO)
        assert log.is_on
        write(log, request_id="req-2")
        log.close()
    assert (tmp_path / "log").read_text().count("\n") == 1


def test_a_reader_that_stalls_costs_lines_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "BUFFER_BYTES_MAX", 300_000)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    loop = Loop()
    log = opened(writing, loop)
    for number in range(5000):
        write(log, request_id=f"req-{number:05d}")
        if number % 10 == 0:
            loop.turn()
    assert log.dropped_lines > 0
    text = b""
    while loop.soon or loop.later or log._waiting:
        try:
            text += os.read(reading, 2**20)
        except BlockingIOError:
            loop.turn()
    text += os.read(reading, 2**20)
    os.close(reading)
    write(log)
    log.close()
    os.close(writing)
    lines = text.decode().splitlines()
    assert len(lines) + log.dropped_lines == 5001
    assert all(line.endswith("bytes=1234") for line in lines)
    assert log._waiting == b""
