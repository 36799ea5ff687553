"""A run as the client makes it comes back from its file as it was."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest.record import Run
from loadtest.run_file import read_run, write_run
from tests.unit.loadtest.client.records import GOOD

gaps = st.lists(st.integers(0, 10**8).map(lambda us: us / 1e6))


@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz"])
@given(gaps=st.lists(gaps, max_size=5), warnings=st.lists(st.text(), max_size=2))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_a_run_is_kept(name: str, tmp_path: Path, gaps: list[list[float]], warnings: list[str]) -> None:
    run = Run(
        scenario="short-chat", arguments={"seed": 1}, api="rest", begun="2026-11-28T18:00:00+00:00", seconds=3.0,
        warmup_s=0.0, records=[replace(GOOD, gaps_s=array("d", one)) for one in gaps], warnings=warnings,
        client={"lag_p99_s": 0.001}, metrics=[],
    )  # fmt: skip
    write_run(tmp_path / name, run)
    found = read_run(tmp_path / name)
    assert [list(one.gaps_s) for one in found.records] == gaps
    assert replace(found, records=()) == replace(run, records=())
