"""What a replica tells of its cache, as bytes: one update after another, and now and then a snapshot.

Numbers are little-endian. Both forms begin with a version and a kind; then counts, then columns: keys, tokens, removed
keys. The length must be exactly what the counts say. What must not live here: Redis, who sends when.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from typing import NamedTuple

MESSAGE_VERSION = 1
UPDATE_ENTRIES_MAX = 65_536
"""Adds and removes in one update: 0.8 MB. A replica with more to tell sends several, or a snapshot."""
SNAPSHOT_ENTRIES_MAX = 4_194_304
"""50 MB: some 250M tokens of prose in chunks of 256 bytes, many times what one engine's cache holds."""
_UPDATE, _SNAPSHOT = 1, 2
_CLEARED = 1
_UPDATE_HEADER = struct.Struct("<BBBxQQII")
"""Version, kind, flags, epoch, seq, adds, removes."""
_SNAPSHOT_HEADER = struct.Struct("<BBxxQQI")
"""Version, kind, epoch, seq, entries."""
_KEY_BYTES, _TOKENS_BYTES = 8, 4


class ResidencyUpdate(NamedTuple):
    """What changed in one replica's cache since the update before it. Cleared comes first, then removes, then adds."""

    epoch: int
    """Random, another one whenever the replica can not tell changes from what it said before. Unsigned 64 bit."""
    seq: int
    """One more than the update before it in this epoch. Unsigned 64 bit."""
    adds: Sequence[tuple[int, int]] = ()
    """Keys with their tokens: the prompt tokens that lie wholly before the chunk's end and are resident, 1 or more."""
    removes: Sequence[int] = ()
    is_cleared: bool = False
    """Whether nothing said before holds any longer."""


def encode_update(update: ResidencyUpdate) -> bytes:
    """An update's bytes.

    Raises:
        ValueError: a number does not fit its field, tokens are 0, or there are more than `UPDATE_ENTRIES_MAX` entries.
    """
    if len(update.adds) + len(update.removes) > UPDATE_ENTRIES_MAX:
        raise ValueError(f"an update of {len(update.adds) + len(update.removes)} entries")
    flags = _CLEARED if update.is_cleared else 0
    try:
        keys = array("Q", [key for key, _ in update.adds])
        tokens = array("I", [count for _, count in update.adds])
        removes = array("Q", update.removes)
        header = _UPDATE_HEADER.pack(MESSAGE_VERSION, _UPDATE, flags, update.epoch, update.seq, len(keys), len(removes))
    except (OverflowError, struct.error, TypeError) as error:
        raise ValueError(f"an update that has no form: {error}") from error
    _check_tokens(tokens)
    return b"".join((header, _column(keys), _column(tokens), _column(removes)))


def decode_update(data: bytes) -> ResidencyUpdate:
    """Read an update.

    Raises:
        ValueError: it is malformed, of another version, or has more than `UPDATE_ENTRIES_MAX` entries.
    """
    if len(data) < _UPDATE_HEADER.size:
        raise ValueError(f"an update of {len(data)} bytes")
    version, kind, flags, epoch, seq, added, removed = _UPDATE_HEADER.unpack_from(data)
    _check_kind(version, kind, _UPDATE)
    if flags & ~_CLEARED:
        raise ValueError(f"an update with flags {flags}")
    if added + removed > UPDATE_ENTRIES_MAX:
        raise ValueError(f"an update of {added + removed} entries")
    tokens_at = _UPDATE_HEADER.size + added * _KEY_BYTES
    removes_at = tokens_at + added * _TOKENS_BYTES
    if len(data) != removes_at + removed * _KEY_BYTES:
        raise ValueError(f"an update of {added} adds and {removed} removes in {len(data)} bytes")
    keys = _read("Q", data[_UPDATE_HEADER.size : tokens_at])
    tokens = _read("I", data[tokens_at:removes_at])
    _check_tokens(tokens)
    return ResidencyUpdate(
        epoch=epoch,
        seq=seq,
        adds=list(zip(keys, tokens, strict=True)),
        removes=_read("Q", data[removes_at:]).tolist(),
        is_cleared=bool(flags & _CLEARED),
    )


def encode_snapshot(epoch: int, seq: int, keys: array[int], tokens: array[int]) -> bytes:
    """The bytes of all a replica holds after update `seq`.

    Args:
        epoch: as in updates.
        seq: of the last update whose changes are in it.
        keys: array("Q").
        tokens: array("I"), one for each key.

    Raises:
        ValueError: a number does not fit its field, tokens are 0, the columns differ in length or type, or there are
            more than `SNAPSHOT_ENTRIES_MAX` entries.
    """
    if keys.typecode != "Q" or tokens.typecode != "I" or len(keys) != len(tokens):
        raise ValueError(f"columns {keys.typecode} of {len(keys)} and {tokens.typecode} of {len(tokens)}")
    if len(keys) > SNAPSHOT_ENTRIES_MAX:
        raise ValueError(f"a snapshot of {len(keys)} entries")
    _check_tokens(tokens)
    try:
        header = _SNAPSHOT_HEADER.pack(MESSAGE_VERSION, _SNAPSHOT, epoch, seq, len(keys))
    except struct.error as error:
        raise ValueError(f"a snapshot that has no form: {error}") from error
    return b"".join((header, _column(keys), _column(tokens)))


def decode_snapshot(data: bytes) -> tuple[int, int, array[int], array[int]]:
    """Read a snapshot: epoch, seq, keys as array("Q"), tokens as array("I").

    Raises:
        ValueError: it is malformed, of another version, or has more than `SNAPSHOT_ENTRIES_MAX` entries.
    """
    if len(data) < _SNAPSHOT_HEADER.size:
        raise ValueError(f"a snapshot of {len(data)} bytes")
    version, kind, epoch, seq, count = _SNAPSHOT_HEADER.unpack_from(data)
    _check_kind(version, kind, _SNAPSHOT)
    if count > SNAPSHOT_ENTRIES_MAX:
        raise ValueError(f"a snapshot of {count} entries")
    tokens_at = _SNAPSHOT_HEADER.size + count * _KEY_BYTES
    if len(data) != tokens_at + count * _TOKENS_BYTES:
        raise ValueError(f"a snapshot of {count} entries in {len(data)} bytes")
    keys, tokens = _read("Q", data[_SNAPSHOT_HEADER.size : tokens_at]), _read("I", data[tokens_at:])
    _check_tokens(tokens)
    return epoch, seq, keys, tokens


def _check_kind(version: int, kind: int, expected: int) -> None:
    if version != MESSAGE_VERSION or kind != expected:
        raise ValueError(f"version {version}, kind {kind}, where {MESSAGE_VERSION} and {expected} are understood")


def _check_tokens(tokens: array[int]) -> None:
    if 0 in tokens:
        raise ValueError("a resident chunk without tokens")


def _column(values: array[int]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _read(typecode: str, data: bytes) -> array[int]:
    values: array[int] = array(typecode, data)
    if sys.byteorder == "big":
        values.byteswap()
    return values
