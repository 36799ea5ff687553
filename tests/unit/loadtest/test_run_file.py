"""Runs as files: what is wrong with one is told by line and field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.core.errors import SetupError
from loadtest.run_file import read_run, write_run
from tests.loadtest_runs import record, run


def test_a_file_says_which_line_and_field_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_run(path, run(record(), record()))
    head, first, second = path.read_text(encoding="utf-8").splitlines()
    wrong = {
        ":3: due_s is missing": [head, first, second.replace('"due_s"', '"due"')],
        ":3: status is": [head, first, second.replace('"status":200', '"status":"ok"')],
        ":2: is not JSON": [head, first[:-3], second],
        ":1: format": [head.replace("longreach-run", "other"), first, second],
        ":1: version": [head.replace('"version":1', '"version":2'), first, second],
        ":1: records": [head, first],
        ":1: seconds": [head.replace('"seconds":10.0', '"seconds":null'), first, second],
        ":3: is not a JSON object": [head, first, "[]"],
    }
    for words, lines in wrong.items():
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with pytest.raises(SetupError) as caught:
            read_run(path)
        assert f"{path}{words}" in str(caught.value)


def test_a_packed_file_that_breaks_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl.gz"
    write_run(path, run(*[record(session=place) for place in range(500)]))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SetupError, match="cannot be read"):
        read_run(path)


def test_what_is_no_packed_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl.gz"
    path.write_text("hello", encoding="utf-8")
    with pytest.raises(SetupError, match="cannot be read"):
        read_run(path)


def test_files_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read: No such file"):
        read_run(tmp_path / "none")
    with pytest.raises(SetupError, match="cannot be written"):
        write_run(tmp_path, run())


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_run(path, run(record()))
    path.write_text(path.read_text(encoding="utf-8").replace('{"label"', '{"colour":"red","label"'), encoding="utf-8")
    assert len(read_run(path).records) == 1


def test_every_field_is_kept(tmp_path: Path) -> None:
    made = run(
        record(tenant="gold", turn=2),
        warmup_s=1.5,
        client={"processes": 2.0},
        stopped="errors",
        warnings=["late"],
        metrics=[{"at_s": 1.0, "gateway_bytes": 5e8}],
    )
    path = tmp_path / "deep" / "run.jsonl"
    write_run(path, made)
    back = read_run(path)
    assert replace(back, records=list(back.records)) == replace(made, records=list(made.records))
