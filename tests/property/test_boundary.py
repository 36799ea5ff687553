"""The boundary moves little, only where it helps, and never beyond the limit."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.autoscaling import ServiceLevel
from cluster.core.boundary import AdaptiveBoundary, Band, LengthWork, Station, together
from cluster.core.boundary.adaptive import GAIN_MIN_RATIO, LEAST_BAND, MOVE_EVERY_S, MOVE_MAX_BANDS
from cluster.core.boundary.lengths import BANDS_PER_OCTAVE, HIGHEST_BAND, LOWEST_BAND, band_of, edge_tokens
from cluster.core.boundary.waits import split

LEVEL = ServiceLevel()
LIMIT = 32_768
STEP_RATIO = 2 ** (MOVE_MAX_BANDS / BANDS_PER_OCTAVE)

stations = st.builds(
    Station, replicas=st.integers(0, 20), prefill_tokens_per_s=st.floats(100, 50_000), token_s=st.floats(0, 0.05)
)
requests = st.tuples(st.integers(1, 262_144), st.floats(0, 1), st.integers(0, 2_000))
minutes = st.lists(st.tuples(st.lists(requests, max_size=15), st.floats(0, 90), stations, stations), max_size=25)


def tell(boundary: AdaptiveBoundary, now_s: float, need_tokens: int, part: float, output_tokens: int) -> None:
    boundary.work.add(
        now_s, need_tokens=need_tokens, prefill_tokens=int(need_tokens * part), output_tokens=output_tokens
    )


def moves(
    limit: int, story: list[tuple[list[tuple[int, float, int]], float, Station, Station]]
) -> list[tuple[float, int]]:
    boundary, now_s, found = AdaptiveBoundary(limit_tokens=limit, level=LEVEL), 0.0, []
    for came, later_s, smaller, larger in story:
        now_s += later_s
        for request in came * 30:
            tell(boundary, now_s, *request)
        told = boundary.decide(now_s, smaller, larger)
        assert boundary.decide(now_s, larger, smaller) == told
        assert told.reason.isascii()
        found.append((now_s, told.tokens))
    return found


@given(st.integers(64, 262_144), minutes)
def test_a_boundary_is_bounded_and_so_are_its_moves(
    limit: int, story: list[tuple[list[tuple[int, float, int]], float, Station, Station]]
) -> None:
    found = moves(limit, story)
    assert found == moves(limit, story)
    assert all(edge_tokens(LEAST_BAND, limit) <= tokens <= limit for _, tokens in found)
    before = limit
    moved_s = float("-inf")
    for now_s, tokens in found:
        if tokens != before:
            assert now_s - moved_s >= MOVE_EVERY_S
            assert max(tokens, before) <= STEP_RATIO * (min(tokens, before) + 1)
            moved_s = now_s
        before = tokens


@given(st.integers(1, 300_000), st.integers(1, 262_144))
def test_a_band_ends_at_its_edge(need_tokens: int, limit: int) -> None:
    band = band_of(need_tokens, limit)
    if LOWEST_BAND < band < HIGHEST_BAND:
        assert edge_tokens(band - 1, limit) < need_tokens <= edge_tokens(band, limit)
    assert (band <= 0) == (need_tokens <= limit)


@given(st.integers(1, 300_000), st.integers(1, 262_144))
def test_requests_are_counted_in_the_band_of_their_need(need_tokens: int, limit: int) -> None:
    work = LengthWork(limit_tokens=limit)
    work.add(0.0, need_tokens=need_tokens, prefill_tokens=1, output_tokens=1)
    assert [band.number for band in work.bands(0.0)] == [band_of(need_tokens, limit)]


@given(st.lists(st.tuples(requests, st.integers(0, 3)), max_size=60))
def test_gateways_together_have_seen_what_one_would_have(came: list[tuple[tuple[int, float, int], int]]) -> None:
    whole, parts = LengthWork(limit_tokens=LIMIT), [LengthWork(limit_tokens=LIMIT) for _ in range(4)]
    for part in parts:  # all begin at one moment
        for work in (whole, part):
            work.add(0.0, need_tokens=1, prefill_tokens=0, output_tokens=0)
    for second, ((need_tokens, to_compute, output_tokens), gateway) in enumerate(came):
        for work in (whole, parts[gateway]):
            prefill_tokens = int(need_tokens * to_compute)
            work.add(second, need_tokens=need_tokens, prefill_tokens=prefill_tokens, output_tokens=output_tokens)
    one, all_of_them = whole.seen(100.0), together(each.seen(100.0) for each in parts)
    assert all_of_them.requests == pytest.approx(one.requests)
    assert [band.number for band in all_of_them.bands] == [band.number for band in one.bands]
    for found, expected in zip(all_of_them.bands, one.bands, strict=True):
        assert tuple(found) == pytest.approx(tuple(expected))


@given(st.integers(64, 262_144), st.integers(0, 600_000), st.floats(0, 1_000) | st.just(float("-inf")))
def test_whoever_goes_on_keeps_within_the_bounds(limit: int, tokens: int, moved_s: float) -> None:
    boundary = AdaptiveBoundary(limit_tokens=limit, level=LEVEL)
    boundary.resume(tokens, moved_s)
    assert edge_tokens(LEAST_BAND, limit) <= boundary.tokens <= limit
    # Nobody who takes it over again changes it.
    again = AdaptiveBoundary(limit_tokens=limit, level=LEVEL)
    again.resume(boundary.tokens, boundary.moved_s)
    assert (again.tokens, again.moved_s) == (boundary.tokens, moved_s)


@settings(max_examples=50)
@given(minutes, st.lists(st.integers(0, 2), min_size=25, max_size=25))
def test_gateways_that_take_turns_move_it_as_little_as_one_alone(
    story: list[tuple[list[tuple[int, float, int]], float, Station, Station]], turns: list[int]
) -> None:
    """Each sees a part, has a clock of its own and goes on from what is in force."""
    gateways = [AdaptiveBoundary(limit_tokens=LIMIT, level=LEVEL) for _ in range(3)]
    shift_s = (0.0, 5_000.0, -3_000.0)
    now_s, tokens, moved_s, found = 0.0, LIMIT, float("-inf"), [(float("-inf"), LIMIT)]
    for (came, later_s, smaller, larger), turn in zip(story, turns, strict=False):
        now_s += later_s
        for number, request in enumerate(came * 30):
            tell(gateways[number % 3], now_s + shift_s[number % 3], *request)
        others = [gateways[each].work.seen(now_s + shift_s[each]) for each in range(3) if each != turn]
        decider = gateways[turn]
        decider.resume(tokens, moved_s + shift_s[turn])
        decider.decide(now_s + shift_s[turn], smaller, larger, others)
        if decider.tokens != tokens:
            tokens, moved_s = decider.tokens, decider.moved_s - shift_s[turn]
            found.append((now_s, tokens))
    for (before_s, before), (at_s, after) in pairwise(found):
        assert at_s - before_s >= MOVE_EVERY_S - 1e-6
        assert max(after, before) <= STEP_RATIO * (min(after, before) + 1)
    assert all(edge_tokens(LEAST_BAND, LIMIT) <= tokens <= LIMIT for _, tokens in found)


def test_a_request_is_promised_the_same_wherever_it_is_served() -> None:
    """Else moving requests to a pool that promises less would seem to help."""
    bands = [Band(0, 1.0, 5_000.0, 10.0), Band(4, 0.5, 20_000.0, 10.0)]
    station = Station(replicas=1, prefill_tokens_per_s=20_000, token_s=0.001)
    patient = ServiceLevel(ttft_s=60)
    strict, lax = (split(bands, -1, station, station, LEVEL, beyond=beyond) for beyond in (None, patient))
    assert strict.larger == lax.larger
    within = strict.larger.wait_s / LEVEL.ttft_limit_s(5_000)
    longer = 0.5 * strict.larger.wait_s / patient.ttft_limit_s(20_000)
    assert lax.cost == pytest.approx((within + longer) / 1.5)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(100, 100_000), st.integers(1, 300)), min_size=1, max_size=12),
    st.integers(1, 10),
    st.integers(1, 10),
    st.floats(0.1, 20),
)
def test_steady_traffic_comes_to_rest_without_turning(
    mix: list[tuple[int, int]], smaller: int, larger: int, requests_per_s: float
) -> None:
    boundary = AdaptiveBoundary(limit_tokens=LIMIT, level=LEVEL)
    small = Station(replicas=smaller, prefill_tokens_per_s=5_000, token_s=0.001)
    large = Station(replicas=larger, prefill_tokens_per_s=8_000, token_s=0.001)
    found = [LIMIT]
    gap_s = len(mix) / requests_per_s
    now_s = 0.0
    for _ in range(300):
        now_s += max(gap_s, 10.0)
        for need_tokens, output_tokens in mix:
            for _ in range(max(int(10.0 / gap_s), 1)):
                tell(boundary, now_s, need_tokens, 1.0, output_tokens)
        found.append(boundary.decide(now_s, small, large).tokens)
    ways = [after > before for before, after in pairwise(found) if after != before]
    assert sum(one != other for one, other in pairwise(ways)) <= 1
    assert len(set(found[-50:])) == 1


def test_a_busy_small_pool_gives_its_longest_away_and_takes_them_back() -> None:
    boundary = AdaptiveBoundary(limit_tokens=LIMIT, level=LEVEL)
    small = Station(replicas=2, prefill_tokens_per_s=5_000, token_s=0.001)
    large = Station(replicas=6, prefill_tokens_per_s=5_000, token_s=0.001)
    for second in range(1_200):
        for need_tokens in (500, 800, 1_000, 2_000):
            tell(boundary, second, need_tokens, 1.0, 50)
        if second % 3 == 0:
            tell(boundary, second, 20_000, 1.0, 50)
        boundary.decide(second, small, large)
    lowered = boundary.decide(1_200, small, large)
    assert lowered.tokens < 20_000
    bands = boundary.work.bands(1_200)
    here, at_limit = (split(bands, band_of(tokens, LIMIT), small, large, LEVEL) for tokens in (lowered.tokens, LIMIT))
    assert here.cost <= (1 - GAIN_MIN_RATIO) * at_limit.cost
    # The replicas change places: the smaller pool has to take its own again.
    for second in range(1_200, 3_600):
        for need_tokens in (500, 800, 1_000, 2_000):
            tell(boundary, second, need_tokens, 1.0, 50)
        if second % 3 == 0:
            tell(boundary, second, 20_000, 1.0, 50)
        raised = boundary.decide(second, Station(replicas=6, prefill_tokens_per_s=5_000, token_s=0.001), small)
    assert raised.tokens > lowered.tokens


@pytest.mark.parametrize("known", [0, 50])
def test_little_known_moves_nothing(known: int) -> None:
    boundary = AdaptiveBoundary(limit_tokens=LIMIT, level=LEVEL)
    one = Station(replicas=1, prefill_tokens_per_s=100, token_s=0.1)
    for _ in range(known):
        tell(boundary, 0, 30_000, 1.0, 500)
    assert boundary.decide(1, one, one).tokens == LIMIT
