"""The context budget on a mixed set of prompts, with the demo model's tokenizer; all figures: tests.budget_measure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cluster.environment import read_environment
from cluster.models.store import default_root
from tests.budget_measure import Tally, measure, printed
from tests.prompt_mix import PromptMix


@pytest.fixture(scope="module")
def folder() -> Path:
    """A real tokenizer, of 151,665 entries."""
    root = default_root(read_environment().cache_home)
    found = sorted(root.glob("demo/*/tokenizer.json"))
    if not found:
        pytest.skip("the demo model is not downloaded (make model): no real tokenizer to measure with")
    return found[0].parent


def misses(table: dict[str, Tally]) -> int:
    return table["all"].missed


async def life(folder: Path, phases: tuple[int, ...]) -> list[dict[str, Tally]]:
    tables = [table async for table in measure(folder, PromptMix(21), phases)]
    for table in tables:
        sys.stdout.write(f"\n{printed(table)}\n")
    return tables


async def test_few_prompts_are_tokenized_and_intervals_hold(folder: Path) -> None:
    _cold, _warming, warm = await life(folder, (150, 350, 500))
    assert misses(warm) <= 3  # 0.5 expected
    assert warm["all"].by["tokenized"] <= 0.08 * warm["all"].prompts
    assert all(tally.misplaced <= tally.missed for tally in warm.values())


@pytest.mark.slow
@pytest.mark.timeout(3_000)
async def test_999_of_1000_are_covered_and_5_of_100_tokenized(folder: Path) -> None:
    *_, warm = await life(folder, (2_000, 5_000))
    assert misses(warm) <= 0.001 * warm["all"].prompts
    assert warm["all"].by["tokenized"] <= 0.05 * warm["all"].prompts
