"""Whether an answer is right.

Text is normalised (Unicode NFKC, lower case) and cut into units: a word or number of Latin letters and digits, or one
other letter, as a Chinese character; marks and spaces only separate. An answer is right where the units of one form of
the right answer follow each other in it, and those of no wrong one do. So `The code is 48,213.` is wrong for 48213, and
an answer that names all options is wrong, too. What must not live here: which answers are right (kinds.py).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from loadtest.quality.question import Question

UNIT = re.compile(r"[a-z0-9]+|[^\W_]")


def is_right(question: Question, answer: str) -> bool:
    """Whether it says the one right thing."""
    told = units(answer)
    return any(_has(told, form) for form in question.right) and not any(_has(told, form) for form in question.wrong)


def units(text: str) -> list[str]:
    """What a text is compared by."""
    return UNIT.findall(unicodedata.normalize("NFKC", text).lower())


def _has(told: Sequence[str], form: str) -> bool:
    wanted = units(form)
    return any(told[place : place + len(wanted)] == wanted for place in range(len(told) - len(wanted) + 1))
