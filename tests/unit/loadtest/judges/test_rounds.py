"""Our client and a judge in turns: a judge that is a real process, and runs of ours that are made up."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import SetupError
from loadtest.bench.processes import Started, start
from loadtest.client.job import Job
from loadtest.judges import rounds
from loadtest.judges.interpreter import Interpreter
from loadtest.judges.judge import Command, JudgeError
from loadtest.judges.load import Order
from loadtest.judges.rounds import LOG, OUR_FILE, Rounds, fresh_seed
from loadtest.judges.taken import Taken, Timed
from loadtest.judges.vllm_bench import VllmBench
from loadtest.run_file import read_run
from tests.judged import LOAD, goal
from tests.loadtest_runs import record, run

ANSWER = Timed(sent_s=0, ttft_s=0.1, decode_s=0.2, prompt_tokens=100, output_tokens=3)


class Script(VllmBench):
    """A judge that runs a line of Python."""

    title = "a script"

    def __init__(self, code: str) -> None:
        self.code = code
        self.orders: list[Order] = []

    def command(self, order: Order) -> Command:
        self.orders.append(order)
        return Command(arguments=("-c", self.code), variables={"ASKED": str(order.seed)})

    def read(self, folder: Path) -> Taken:
        assert (folder / LOG).exists()
        return Taken(answers=[ANSWER], failed=0)


class Watched:
    """What was run, in order."""

    def __init__(self) -> None:
        self.turns: list[str] = []
        self.jobs: list[Job] = []

    @contextlib.contextmanager
    def following(self, job: Job, title: str) -> Iterator[Any]:
        self.turns.append(title)
        self.jobs.append(job)
        yield lambda _: None

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        self.turns.append(what)
        yield


@pytest.fixture(autouse=True)
def _our_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "run_load", lambda *_, **_how: run(record()))


def play(judge: Script, folder: Path, *, repeats: int = 3) -> tuple[Watched, Any]:
    watched = Watched()
    found = Rounds(
        judge=judge,
        interpreter=Interpreter(python=Path(sys.executable), version="0"),
        load=LOAD,
        goal=goal(folder),
        repeats=repeats,
        seed=10,
        name="lj-1",
        folder=folder,
        timeout_s=60.0,
        variables=os.environ,
    ).run(following=watched.following, waiting=watched.waiting)
    return watched, found


def _runs(pid: int) -> bool:
    """Not where it is gone, or a zombie that nobody has waited for yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"


def test_who_is_first_takes_turns(tmp_path: Path) -> None:
    watched, (ours, theirs) = play(Script("pass"), tmp_path)
    assert watched.turns == [
        "warm-up",
        "round 1 of 3, our client", "round 1 of 3, a script",
        "round 2 of 3, a script", "round 2 of 3, our client",
        "round 3 of 3, our client", "round 3 of 3, a script",
    ]  # fmt: skip
    assert len(ours) == len(theirs) == 3
    assert [read_run(tmp_path / f"round-{number}" / OUR_FILE).records for number in (1, 2, 3)] == [[record()]] * 3


def test_every_round_has_new_words_and_both_have_its_seed(tmp_path: Path) -> None:
    judge = Script("pass")
    watched, _ = play(judge, tmp_path)
    counted = watched.jobs[1:]
    assert [job.seed for job in counted] == [one.seed for one in judge.orders] == [10, 11, 12]
    assert len({job.salt for job in watched.jobs}) == 4
    assert len({one.fresh for one in judge.orders}) == 3
    assert {job.sessions_max for job in counted} == {LOAD.requests}
    assert not {one.folder for one in judge.orders} & {tmp_path}


def test_the_judge_starts_in_the_environment_with_what_it_is_told(tmp_path: Path) -> None:
    code = "import json, os; json.dump([os.environ['ASKED'], os.environ['PATH'], os.getcwd()], open('seen', 'w'))"
    play(Script(code), tmp_path, repeats=2)
    seen = json.loads((tmp_path / "round-2" / "seen").read_text())
    assert seen == ["11", os.environ["PATH"], str(tmp_path / "round-2")]


def test_a_judge_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match=r"(?s)status 3.*out of luck"):
        play(Script("import sys; print('out of luck'); sys.exit(3)"), tmp_path)


def test_a_judge_that_takes_too_long_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("new", "w").write(str(child.pid))
os.rename("new", "child")
time.sleep(600)
"""
    told = tmp_path / "round-1" / "child"

    def started(*arguments: Any, **how: Any) -> Started:
        found = start(*arguments, **how)
        wait = found.process.wait

        def out_of_time(timeout_s: float) -> int:
            if timeout_s != 60.0:
                return wait(timeout_s)
            while not told.exists():
                assert found.process.poll() is None
            raise subprocess.TimeoutExpired(code, timeout_s)

        monkeypatch.setattr(found.process, "wait", out_of_time)
        return found

    monkeypatch.setattr(rounds, "start", started)
    with pytest.raises(JudgeError, match="did not end within 60 s"):
        play(Script(code), tmp_path)
    # A kill takes effect a moment later; this test's time limit is the bound.
    while _runs(int(told.read_text())):
        pass


def test_a_run_of_ours_that_was_stopped_is_no_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "run_load", lambda *_, **_how: run(record(), stopped="interrupted by SIGINT"))
    with pytest.raises(JudgeError, match="interrupted by SIGINT"):
        play(Script("pass"), tmp_path)


def test_results_of_another_run_are_not_mixed_in(tmp_path: Path) -> None:
    play(Script("pass"), tmp_path, repeats=2)
    with pytest.raises(SetupError, match="has rounds already"):
        play(Script("pass"), tmp_path, repeats=2)


def test_seeds_follow_from_names() -> None:
    assert fresh_seed("a") == fresh_seed("a") != fresh_seed("b")
    assert 0 <= fresh_seed("a") < 2**31
