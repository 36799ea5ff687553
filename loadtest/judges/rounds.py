"""Our client and a judge in turns, on one load: noise and drift of the machine meet both.

What must not live here: whether they agree (agreement.py).
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.core.errors import SetupError
from loadtest.bench.processes import start
from loadtest.client.coordinator import Rules, arguments_of, run_load
from loadtest.client.job import Job
from loadtest.client.live import Snapshot
from loadtest.judges.interpreter import Interpreter
from loadtest.judges.judge import Judge, JudgeError
from loadtest.judges.load import Goal, Load, Order
from loadtest.judges.ours import job_of, taken_of
from loadtest.judges.taken import Figures, figures_of
from loadtest.record import Run
from loadtest.run_file import write_run

WARMUP_REQUESTS_MAX = 8
"""Sent by our client before the first round, and not counted: what a server does once is not to meet one side only."""
FRESH_MAX = 2**31
"""numpy takes seeds below 2^32."""
OUR_FILE = "ours.jsonl.gz"
LOG = "judge.log"

Following = Callable[[Job, str], AbstractContextManager[Callable[[Snapshot], None]]]
"""Draws a run of ours; told what it is."""
Waiting = Callable[[str], AbstractContextManager[object]]
"""Says what is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """What is done, in turns."""

    judge: Judge
    interpreter: Interpreter
    load: Load
    goal: Goal
    repeats: int
    seed: int
    name: str
    """Of the run; words follow from it."""
    folder: Path
    """A folder for each round is made in it."""
    timeout_s: float
    """Of one round of the judge, its start included."""
    variables: Mapping[str, str] = field(repr=False)
    """The environment that judges start in."""

    def run(self, *, following: Following, waiting: Waiting) -> tuple[tuple[Figures, ...], tuple[Figures, ...]]:
        """Run all rounds; ours and theirs.

        Raises:
            JudgeError: the judge failed or took too long, or our client was stopped.
            LoadTestError: our client could not do its work.
            SetupError: the folder has rounds of another run.
        """
        if [*self.folder.glob("round-*")]:
            raise SetupError(f"{self.folder} has rounds already", "name another folder with --out")
        ours: list[Figures] = []
        theirs: list[Figures] = []
        self._warm_up(following)
        for number in range(self.repeats):
            # Who is first takes turns, too: else what grows in a round would meet one side only.
            for is_ours in (True, False) if number % 2 == 0 else (False, True):
                if is_ours:
                    ours.append(self._ours(number, following))
                else:
                    theirs.append(self._theirs(number, waiting))
        return tuple(ours), tuple(theirs)

    def _warm_up(self, following: Following) -> None:
        load = replace(self.load, requests=min(self.load.requests, WARMUP_REQUESTS_MAX))
        self._send(job_of(load, self.goal, name=f"{self.name}-warm", seed=self.seed), "warm-up", following)

    def _ours(self, number: int, following: Following) -> Figures:
        job = job_of(self.load, self.goal, name=f"{self.name}-{number}", seed=self.seed + number)
        run = self._send(job, f"{self._title(number)}, our client", following)
        write_run(self._folder(number) / OUR_FILE, run)
        return figures_of(taken_of(run))

    def _theirs(self, number: int, waiting: Waiting) -> Figures:
        order = Order(
            folder=self._folder(number),
            load=self.load,
            goal=self.goal,
            seed=self.seed + number,
            fresh=fresh_seed(f"{self.name}-{number}"),
        )
        with waiting(f"{self._title(number)}, {self.judge.title}"):
            self._judge(order)
        return figures_of(self.judge.read(order.folder))

    def _title(self, number: int) -> str:
        return f"round {number + 1} of {self.repeats}"

    def _folder(self, number: int) -> Path:
        folder = self.folder / f"round-{number + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _send(self, job: Job, title: str, following: Following) -> Run:
        rules = Rules()
        with following(job, title) as watch:
            run = run_load(job, rules, arguments=arguments_of(job, rules), watch=watch)
        if run.stopped:
            raise JudgeError(f"our client was stopped: {run.stopped}")
        return run

    def _judge(self, order: Order) -> None:
        command = self.judge.command(order)
        started = start(
            [self.interpreter.python, *command.arguments],
            core=None,
            log=order.folder / LOG,
            env={**self.variables, **command.variables},
            cwd=order.folder,
            # Else the two tools would have unlike shares of busy cores.
            own_session=False,
        )
        try:
            status = started.process.wait(self.timeout_s)
        except subprocess.TimeoutExpired:
            raise JudgeError(
                f"{self.judge.title} did not end within {self.timeout_s:g} s (--timeout-s):\n{started.log_tail()}"
            ) from None
        finally:
            # It may have processes of its own, which would go on sending.
            started.end()
        if status:
            raise JudgeError(f"{self.judge.title} ended with status {status}:\n{started.log_tail()}")


def fresh_seed(name: str) -> int:
    """A seed that follows from a name, below `FRESH_MAX`."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") % FRESH_MAX
