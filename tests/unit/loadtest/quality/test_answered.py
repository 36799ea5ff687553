"""Runs as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import SetupError
from loadtest.quality.answered import Condition, read_quality, write_quality
from tests.quality_runs import asked, quality_run

TWO = (Condition.UNCACHED, Condition.LOADED)
RUN = quality_run(asked(0, TWO), asked(1, TWO, depth=None), conditions=TWO)


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "new" / "run.json"
    write_quality(file, RUN)
    assert read_quality(file) == RUN


def _set(data: dict[str, Any], value: Any, *path: Any) -> None:
    for step in path[:-1]:
        data = data[step]
    data[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("version",), 2, "version 2"),
        (("conditions",), [], "no condition"),
        (("conditions",), ["uncached", "cached"], "no reply of needle-english-1000-d50-0: cached"),
        (("conditions",), ["nonesuch"], "conditions.0"),
        (("asked", 1, "kind"), "riddle", "asked.1.kind"),
        (("asked", 0, "replies", "loaded", "token_ids"), "x", "asked.0.replies.loaded.token_ids"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, path: tuple[Any, ...], value: Any, word: str) -> None:
    file = tmp_path / "run.json"
    write_quality(file, RUN)
    data = json.loads(file.read_text())
    _set(data, value, *path)
    file.write_text(json.dumps(data))
    with pytest.raises(SetupError, match=word):
        read_quality(file)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(text)
    with pytest.raises(SetupError, match=r"run\.json: "):
        read_quality(file)


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        read_quality(tmp_path / "nonesuch")
    with pytest.raises(SetupError, match="cannot be written"):
        write_quality(tmp_path, RUN)
