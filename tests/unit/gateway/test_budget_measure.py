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


async def life(folder: Path, mix: PromptMix, phases: tuple[int, ...]) -> Tally:
    """What became of the last phase's prompts."""
    tables = [table async for table in measure(folder, mix, phases)]
    for table in tables:
        sys.stdout.write(f"\n{printed(table)}\n")
    assert all(tally.misplaced <= tally.missed for table in tables for tally in table.values())
    return tables[-1]["all"]


async def test_few_prompts_are_tokenized_and_intervals_hold(folder: Path) -> None:
    warm = await life(folder, PromptMix(21, longest_tokens=20_000), (1_000, 1_000))
    assert warm.missed <= 3  # 1 is promised; so few prompts cannot tell 1 from 3
    assert warm.by["tokenized"] <= 0.08 * warm.prompts


@pytest.mark.slow
@pytest.mark.timeout(3_000)
async def test_999_of_1000_are_covered_and_5_of_100_tokenized(folder: Path) -> None:
    warm = await life(folder, PromptMix(11), (2_000, 5_000))
    assert warm.missed <= 0.001 * warm.prompts
    assert warm.by["tokenized"] <= 0.05 * warm.prompts
