"""Live pools as the boundary's rule sees them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.core.autoscaling import PoolSpeed, ServiceLevel
from cluster.core.boundary import AdaptiveBoundary, Band, LengthsSeen, LivePool, decide_live
from cluster.core.boundary.live import MIDDLE_RATIO, mean_need_tokens, station_of

LIMIT = 8_192
SPEED = PoolSpeed(
    prefill_tokens_per_s=5_000, decode_tokens_per_s=400, decode_sequences=4, kv_tokens=0, max_running=0,
    decode_alone_s=0.007,
)  # fmt: skip


def test_a_token_takes_its_part_of_a_full_batch() -> None:
    """A step of four takes 10 ms, one of a single sequence 7 ms: each further one takes 1 ms."""
    measured = station_of(LivePool(3, SPEED))
    assert measured is not None
    assert (measured.replicas, measured.prefill_tokens_per_s) == (3, 5_000)
    assert measured.token_s == pytest.approx(0.010 / 4)
    full = station_of(LivePool(3, replace(SPEED, max_running=10)))
    assert full is not None
    assert full.token_s == pytest.approx(0.016 / 10)


def test_no_batch_is_full_that_the_kv_cache_does_not_hold() -> None:
    speed = replace(SPEED, max_running=10, kv_tokens=10_000)
    held = station_of(LivePool(1, speed), held_tokens=3_000)
    assert held is not None
    assert held.token_s == pytest.approx(0.009 / 3)
    alone = station_of(LivePool(1, speed), held_tokens=50_000)
    assert alone is not None
    assert alone.token_s == pytest.approx(0.007)


@pytest.mark.parametrize("speed", [None, replace(SPEED, prefill_tokens_per_s=0.0)])
def test_nothing_moves_while_a_speed_is_not_known(speed: PoolSpeed | None) -> None:
    assert station_of(LivePool(1, speed)) is None
    boundary = AdaptiveBoundary(limit_tokens=LIMIT, level=ServiceLevel())
    known, unknown = LivePool(1, SPEED), LivePool(1, speed)
    assert decide_live(boundary, 1.0, unknown, known, []) is None
    assert decide_live(boundary, 1.0, known, unknown, []) is None
    assert boundary.tokens == LIMIT


def test_what_others_have_seen_moves_it() -> None:
    boundary = AdaptiveBoundary(limit_tokens=LIMIT, level=ServiceLevel())
    pool = LivePool(1, SPEED)
    busy = LengthsSeen(300.0, [Band(-12, 2.0, 900.0, 10.0), Band(0, 0.4, 8_000.0, 10.0)])
    alone = decide_live(boundary, 1.0, pool, pool, [])
    assert alone is not None
    assert alone.tokens == LIMIT
    found = decide_live(boundary, 2.0, pool, pool, [busy])
    assert found is not None
    assert found.tokens == boundary.tokens < LIMIT


def test_the_mean_need_of_bands() -> None:
    bands = [Band(0, 1.0, 1.0, 1.0), Band(-4, 3.0, 1.0, 1.0)]
    assert mean_need_tokens(bands, LIMIT) == pytest.approx(MIDDLE_RATIO * (LIMIT + 3 * LIMIT / 2) / 4)
    assert mean_need_tokens([], LIMIT) == 0.0
