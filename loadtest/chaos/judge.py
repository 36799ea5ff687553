"""Compares answers with those of the undisturbed cluster.

What must not live here: asking, sums over many.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from loadtest.chaos.answer import Answer, End
from loadtest.chaos.kinds import Kind

LOGPROB_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with one answer; nothing, if all are false and zero."""

    lost: bool
    """Neither complete nor refused."""
    refused: bool
    wrong: bool
    """Complete, and not the undisturbed answer."""
    missing_tokens: int
    """Of the undisturbed answer: of a lost one too, those it still owed are not counted."""
    duplicated_tokens: int
    """Too many, whether they were there before or never should have been."""
    invalid_json: bool
    why: str = ""

    @property
    def is_right(self) -> bool:
        """Whether the client got what it should."""
        return not (self.lost or self.refused or self.wrong or self.invalid_json)


def judge(answer: Answer, expected: Answer, kind: Kind) -> Verdict:
    """What is wrong with `answer`, given the undisturbed one of its kind."""
    if answer.end is not End.COMPLETE:
        is_refused = answer.end is End.REFUSED
        # What came before the end must be right all the same.
        missing, extra = _difference(expected.ids[: len(answer.ids)], answer.ids)
        why = f"{answer.end}: {answer.detail}"[:200]
        return Verdict(
            lost=not is_refused, refused=is_refused, wrong=False, missing_tokens=missing, duplicated_tokens=extra,
            invalid_json=False, why=why,
        )  # fmt: skip
    missing, extra = _difference(expected.ids, answer.ids)
    problems = [
        name
        for name in ("ids", "text", "finish", "output_tokens", "prompt_tokens", "usages")
        if getattr(answer, name) != getattr(expected, name)
    ]
    if not _is_near(answer.logprobs, expected.logprobs):
        problems.append("logprobs")
    return Verdict(
        lost=False, refused=False, wrong=bool(problems), missing_tokens=missing, duplicated_tokens=extra,
        invalid_json=kind.is_json and not parses(answer.text),
        why=f"other {', '.join(problems)}" if problems else "",
    )  # fmt: skip


def _difference(expected: list[int], found: list[int]) -> tuple[int, int]:
    """Tokens that are missing, and tokens too many: by the longest runs they have in common (difflib)."""
    if expected == found:
        return 0, 0
    blocks = SequenceMatcher(None, expected, found, autojunk=False).get_matching_blocks()
    common = sum(block.size for block in blocks)
    return len(expected) - common, len(found) - common


def _is_near(found: Sequence[float], expected: Sequence[float]) -> bool:
    """The last digits depend on what else was computed in the same step."""
    return len(found) == len(expected) and all(
        abs(one - other) < LOGPROB_TOLERANCE for one, other in zip(found, expected, strict=True)
    )


def parses(text: str) -> bool:
    """Whether it is JSON, whole; that it is the right one is told by the undisturbed answer."""
    try:
        # xgrammar lets a tab into strings that have a maxLength.
        json.loads(text, strict=False)
    except ValueError:
        return False
    return True
