"""Which Python runs a judge, and how its environment is made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import SetupError
from cluster.exclusive import hold
from loadtest.judges import interpreter
from loadtest.judges.guidellm import LOCK, GuideLlm
from loadtest.judges.interpreter import find_interpreter
from loadtest.judges.judge import Distribution
from loadtest.judges.registry import NAMES, find_judge
from loadtest.judges.vllm_bench import VllmBench


class Here(VllmBench):
    """A judge of a distribution that is always here."""

    distribution = Distribution(name="pytest", version=pytest.__version__, environment=(), remedy="install it")


class Nowhere(VllmBench):
    distribution = Distribution(name="nonesuch-judge", version="1", environment=(), remedy="there is no remedy")


def find(judge: Any, cache: Path, named: Path | None = None, said: list[str] | None = None) -> interpreter.Interpreter:
    told = [] if said is None else said
    return find_interpreter(judge, named, cache=cache, variables={"PATH": ""}, say=told.append)


def test_without_an_environment_of_its_own_it_is_this_python(tmp_path: Path) -> None:
    found = find(Here(), tmp_path)
    assert (found.python, found.version) == (Path(sys.executable), pytest.__version__)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="has no nonesuch-judge") as caught:
        find(Nowhere(), tmp_path)
    assert caught.value.remedy == "there is no remedy"


@pytest.mark.parametrize("named", ["absent", "text"])
def test_a_file_that_is_no_python_is_said(named: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    with pytest.raises(SetupError, match="no Python that runs here"):
        find(Here(), tmp_path, tmp_path / named)


def make(folder: Path, requirements: Any, **_how: Any) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("#!/bin/sh\necho 0.8.1\n")
    (folder / "bin" / "python").chmod(0o755)
    (folder / "asked").write_text(" ".join(map(str, requirements)))


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "make_environment", make)
    said: list[str] = []
    found = find(GuideLlm(), tmp_path, said=said)
    assert (found.python, found.version) == (tmp_path / "guidellm-0.8.1" / "bin" / "python", "0.8.1")
    assert (tmp_path / "guidellm-0.8.1" / "asked").read_text() == f"guidellm==0.8.1 --constraint {LOCK}"
    assert len(said) == 1
    # A second time would fail on the folder that is there.
    assert find(GuideLlm(), tmp_path, said=said) == found
    assert len(said) == 1


def test_what_an_installation_left_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "make_environment", make)
    left = tmp_path / "guidellm-0.8.1" / "half"
    left.parent.mkdir()
    left.touch()
    find(GuideLlm(), tmp_path)
    assert not left.exists()


def test_why_an_environment_cannot_be_made_is_said_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, *_: Any, **_how: Any) -> str:
        folder.mkdir()
        return "guidellm cannot be installed: no index"

    monkeypatch.setattr(interpreter, "make_environment", refuse)
    with pytest.raises(SetupError, match="no index"):
        find(GuideLlm(), tmp_path)
    assert not (tmp_path / "guidellm-0.8.1").exists()


def test_two_do_not_install_at_once(tmp_path: Path) -> None:
    with (
        hold(tmp_path / "guidellm-0.8.1.lock", purpose="installing guidellm"),
        pytest.raises(SetupError, match="installing guidellm is already at work"),
    ):
        find(GuideLlm(), tmp_path)


def test_judges_are_found_by_name() -> None:
    assert [find_judge(name).name for name in NAMES] == ["vllm", "guidellm"]
    with pytest.raises(SetupError, match="aiperf") as caught:
        find_judge("aiperf")
    assert "vllm, guidellm" in caught.value.remedy
