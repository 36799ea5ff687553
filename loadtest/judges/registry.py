"""All judges, by name.

What must not live here: what is in them.
"""

from __future__ import annotations

from cluster.core.errors import SetupError
from loadtest.judges.guidellm import GuideLlm
from loadtest.judges.judge import Judge
from loadtest.judges.vllm_bench import VllmBench

JUDGES: tuple[Judge, ...] = (VllmBench(), GuideLlm())
NAMES = tuple(judge.name for judge in JUDGES)


def find_judge(name: str) -> Judge:
    """The judge of this name.

    Raises:
        SetupError: there is none.
    """
    for judge in JUDGES:
        if judge.name == name:
            return judge
    raise SetupError(f"no judge {name!r}", f"known: {', '.join(NAMES)}; docs/loadtesting.md has recipes for others")
