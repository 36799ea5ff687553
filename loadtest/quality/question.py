"""One question of a quality set: a long prompt with one right answer.

What must not live here: making questions (question_set.py), judging answers (scoring.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

DIGEST_BYTES = 8
"""Of a prompt: enough that two sets of a million questions are not taken for one."""


class QuestionKind(StrEnum):
    """What a question asks for."""

    NEEDLE = "needle"
    """One fact, somewhere in the document (Kamradt, "Needle in a haystack", 2023)."""
    JOIN = "join"
    """Two facts in distant sections, which have to be put together; two more lead astray."""
    ORDER = "order"
    """Which of three events the document mentions first, second or last."""
    COUNT = "count"
    """How often a named thing occurs."""


class Language(StrEnum):
    """Of a document and its question."""

    ENGLISH = "english"
    CHINESE = "chinese"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with its document."""

    id: str
    """The same for all sets that have such a question, whatever their seed."""
    kind: QuestionKind
    language: Language
    prompt_tokens: int
    """What was asked for, the template included; exact where the tokenizer was at hand."""
    depth: float | None
    """Where the fact is that is asked for, as a share of the filler before it; of a join, the first of the two. None
    where facts are all over the document."""
    text: str
    """The user's message: the document, then what is asked."""
    facts: tuple[str, ...]
    """The sentences that were put into the filler, in order."""
    right: tuple[str, ...]
    """Forms of the right answer."""
    wrong: tuple[str, ...]
    """What a right answer must not have beside it: the other answers that could be taken for one."""

    @property
    def digest(self) -> str:
        """Of the text: two runs asked the same only where it is equal."""
        return blake2b(self.text.encode(), digest_size=DIGEST_BYTES).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A sentence to be put into the filler."""

    sentence: str
    """It begins where a tokenizer splits, and so does what follows it."""
    depth: float
    """From 0, after the first word of the filler, to 1, behind the last."""
