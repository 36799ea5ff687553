"""The sum of a request's engine calls, whatever way the engine reports its outputs."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.outcome import ReplicaOutcome
from cluster.engine.tally import Stamps, Tally

STAMPS = Stamps(queued_s=10.0, scheduled_s=10.5, first_token_s=12.5, last_token_s=20.0)
PIECES = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=6)


@given(pieces=PIECES)
def test_deltas_and_repetitions_count_the_same(pieces: list[list[int]]) -> None:
    found = []
    for is_delta in (True, False):
        tally = Tally(keeps_ids=True)
        part = tally.begin(1)
        so_far: list[int] = []
        for piece in pieces:
            so_far += piece
            tally.output(part, 0, piece if is_delta else so_far, is_delta=is_delta, stamps=None)
        found.append((tally.outcome().output_tokens, tally.take_ids()))
    assert found[0] == found[1]
    assert found[0] == (sum(map(len, pieces)), [(0, piece) for piece in pieces if piece])


@given(pieces=PIECES, cut=st.integers(0, 6))
def test_every_id_is_told_once(pieces: list[list[int]], cut: int) -> None:
    tally = Tally(keeps_ids=True)
    part = tally.begin(1)
    told: list[int] = []
    for number, piece in enumerate(pieces):
        tally.output(part, 0, piece, is_delta=True, stamps=None)
        if number == cut:
            told += [one for _, ids in tally.take_ids() for one in ids]
    told += [one for _, ids in tally.take_ids() for one in ids]
    assert told == [one for piece in pieces for one in piece]
    assert tally.take_ids() == []


def test_a_prompt_counts_once_for_all_its_choices() -> None:
    tally = Tally()
    part = tally.begin(3)
    for cached in (0, 96, 96):
        tally.prompt(part, prompt_tokens=100, cached_tokens=cached)
    outcome = tally.outcome()
    assert (outcome.prompt_tokens, outcome.cached_tokens) == (100, 0)


def test_times_are_those_of_the_request_as_a_whole() -> None:
    tally = Tally()
    tally.output(tally.begin(1), 0, [1], is_delta=True, stamps=STAMPS)
    later = dataclasses.replace(STAMPS, scheduled_s=11.0, first_token_s=14.0, last_token_s=21.0)
    tally.output(tally.begin(1), 0, [1], is_delta=True, stamps=later)
    outcome = tally.outcome()
    assert (outcome.queue_s, outcome.prefill_s, outcome.decode_s) == (0.5, 2.0, 8.5)


def test_what_has_not_happened_took_no_time() -> None:
    tally = Tally()
    assert tally.outcome() == ReplicaOutcome(prompt_tokens=0, output_tokens=0)
    stamps = Stamps(queued_s=10.0, scheduled_s=0.0, first_token_s=0.0, last_token_s=0.0)
    tally.output(tally.begin(1), 0, [], is_delta=True, stamps=stamps)
    assert tally.outcome() == ReplicaOutcome(prompt_tokens=0, output_tokens=0)


def test_ids_are_not_kept_for_nobody() -> None:
    for tally in (Tally(), Tally(keeps_ids=True, is_beam_search=True)):
        tally.output(tally.begin(1), 0, [1], is_delta=True, stamps=None)
        assert tally.take_ids() == []
