"""Which field of a message that cannot be decoded holds text that is not UTF-8.

Protobuf's own decoder says only that something is wrong. The wire format is described at
https://protobuf.dev/programming-guides/encoding. What must not live here: any other fault of a message.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

FIELDS_MAX = 100_000
"""Looked at in all, some 50 ms: a message of more and tinier fields is an attack, and is told less."""
DEPTH_MAX = 16
"""Messages in messages; this API's have five levels."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def field_with_bad_text(kind: Any, raw: bytes) -> str | None:
    """The path of the first such field, as `messages[1].content`; None where the fault is another one.

    Args:
        kind: the descriptor of what `raw` should be.
        raw: a message, as it came.
    """
    return _found(kind, raw, depth=0, budget=itertools.count())


def _found(kind: Any, raw: bytes, *, depth: int, budget: Iterator[int]) -> str | None:
    seen: dict[int, int] = {}
    try:
        for number, wire_type, value in _fields(raw):
            if next(budget) >= FIELDS_MAX:
                return None
            field = kind.fields_by_number.get(number)
            if field is None or wire_type != _BYTES:
                continue
            at = seen[number] = seen.get(number, -1) + 1
            path = f"{field.name}[{at}]" if field.is_repeated else str(field.name)
            if field.type == FieldDescriptor.TYPE_STRING:
                if not _is_utf8(value):
                    return path
            elif field.type == FieldDescriptor.TYPE_MESSAGE and depth < DEPTH_MAX:
                inner = _found(field.message_type, value, depth=depth + 1, budget=budget)
                if inner is not None:
                    return f"{path}.{inner}"
    except (IndexError, ValueError):
        return None
    return None


def _fields(raw: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, wire type and content of each field; content only of those with a length."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        number, wire_type, value = tag >> 3, tag & 7, b""
        if wire_type == _VARINT:
            _, at = _varint(raw, at)
        elif wire_type == _FIXED64:
            at += 8
        elif wire_type == _FIXED32:
            at += 4
        elif wire_type == _BYTES:
            size, at = _varint(raw, at)
            value = raw[at : at + size]
            if len(value) < size:
                raise ValueError("cut off")
            at += size
        else:
            raise ValueError("no such wire type")
        yield number, wire_type, value


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte has no continuation bit
            return value, at
        shift += 7
        if shift > 63:  # noqa: PLR2004 - 64 bits at most
            raise ValueError("no varint")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
