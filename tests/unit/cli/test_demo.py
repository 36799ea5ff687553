"""The demo says what was measured, whatever that was."""

from __future__ import annotations

import random

import pytest

from cluster.cli.demo import Measured, conclusion, document_tokens
from cluster.cli.demo_document import write_document


def row(pool: str, *, prompt: int | None = 5000, cached: int | None = 0, ttft_s: float | None = 1.0) -> Measured:
    return Measured(what="x", pool=pool, reason="r", prompt_tokens=prompt, cached_tokens=cached, ttft_s=ttft_s, text="")


def test_conclusion_follows_the_numbers() -> None:
    said = conclusion([row("short"), row("long", ttft_s=10.0), row("long", cached=4900, ttft_s=0.5)])
    assert "went to pool long while pool short stayed free" in said
    assert "4,900 of its 5,000 tokens (98%)" in said
    assert "20.0 times sooner (10.00 s, then 0.50 s)" in said


def test_conclusion_admits_what_did_not_happen() -> None:
    said = conclusion([row("one"), row("one", ttft_s=1.0), row("one", cached=None, ttft_s=2.0)])
    assert "All three went to pool one" in said
    assert "did not say" in said
    assert "no sooner" in said
    assert conclusion([row("a"), row("b", ttft_s=None), row("b")]).endswith("(0%) were cached.")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [([], 5000), ([4096, 32768], 5000), ([8192, 32768], 9830), ([4096], 2867), ([4096, 5000], 3500)],
)
def test_document_fits_the_pools(limits: list[int], expected: int) -> None:
    assert document_tokens(limits) == expected


def test_document_is_new_for_each_seed_and_answers_its_question() -> None:
    first, question = write_document(100, random.Random(1))
    again, _ = write_document(100, random.Random(1))
    other, _ = write_document(100, random.Random(2))
    assert first == again
    assert first.splitlines()[0] != other.splitlines()[0]
    assert first.count("spare key") == 1
    assert "spare key" in question
    assert 80 * 100 < len(first) < 200 * 100
