"""Values of labels that the gateway itself decides.

What must not live here: counting (metrics.py).
"""

from __future__ import annotations

from enum import StrEnum


class PromptCounted(StrEnum):
    """How a prompt's length was found out."""

    BOUND = "bound"
    """Its bytes alone bound it: short enough for every pool."""
    INTERVAL = "interval"
    """The learned bytes-per-token interval lay on one side of every boundary."""
    SAMPLED = "sampled"
    """A part of it was tokenized, in a worker thread."""
    TOKENIZED = "tokenized"
    GIVEN = "given"
    """The client sent token ids, or a replica told the length."""


class Moved(StrEnum):
    """Why a stream moves."""

    DRAIN = "drain"
    """Its replica drains."""
    FULL = "full"
    """Its pool's context is full."""


class ResumeStage(StrEnum):
    """What a cut stream's pause is made of."""

    PLACE = "place"
    """Until a replica with a place is asked, those that would not take it included."""
    REDO = "redo"
    """Until that one has computed what the client has, to its first byte."""


class Resumed(StrEnum):
    """What became of a stream that was cut, or moves; the first two are what a replica calls its ways."""

    APPEND = "append"
    REPLAY = "replay"
    REFUSED = "refused"
    """A replica would not go on with it."""
    NOBODY = "nobody"
    """No replica was found in time; of a stream that moves: it stays to its end."""


class Repeated(StrEnum):
    """What became of a request with an idempotency key; the last is an answer's."""

    FIRST = "first"
    """It made the answer."""
    JOINED = "joined"
    """It got the answer that another one was making."""
    REPLAYED = "replayed"
    """It got an answer that was kept."""
    REUSED = "reused"
    """Another request has the key."""
    ALONE = "alone"
    """It was served as if it had no key: the state store is away, or the answer under its key has become too large."""
    UNKEPT = "unkept"
    """An answer that is kept no (longer) for want of room."""
