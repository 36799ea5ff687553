"""JSON as RFC 8259 has it, and nothing that two parsers could read in two ways.

Two readers. The quick one (orjson) reads nearly every body, at a fifth of the cost. Its parser takes keys that come
twice and has no sentences for clients: what is in doubt is read again by the careful one (the standard library's).

What lives here: bytes to a dict, or the one thing that is wrong with them. What must not: any field's meaning.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

MAX_DEPTH = 128
"""Deep enough for any JSON schema met in tools, shallow enough for every recursive reader behind us."""
MAX_KEY_SHOWN = 64
_CONTAINERS = frozenset({dict, list})
_MAY_HOLD_COLONS = frozenset({str, dict, list})
_COLON_ESCAPE = re.compile(rb"\\u003[aA]")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89abAB]|\\u[dD][c-fC-F]")


class NotStrictJsonError(Exception):
    """The bytes are not a JSON object that every parser reads alike; the message says why, for the client."""

    def __init__(self, message: str, *, key: str | None = None) -> None:
        self.key = key
        super().__init__(message)


def parse_quickly(raw: bytes) -> dict[str, Any] | None:
    """The JSON object in `raw`; None where that is in doubt: then `parse_object` has the answer.

    It keeps every promise of `parse_object`, and gives the same value but for integers beyond 64 bits: they come as the
    nearest float. So a refusal that rests on this value is in doubt too.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict and _has_unique_keys(value, raw) else None


def _has_unique_keys(value: dict[str, Any], raw: bytes) -> bool:
    """Whether it is certain that no key came twice in `raw`, and that it is not nested too deeply.

    Outside of strings JSON has one colon a member. A member that was lost to a later one of the same key leaves its
    colon behind, so `raw` then has more colons than the members and strings that were found.
    """
    members = _members(value)
    if members is None:
        return False
    colons = raw.count(b":") - members
    # A colon can also be written as an escape, which would hide that of a lost member.
    return not colons or (colons == _colons_within(value) and not _COLON_ESCAPE.search(raw))


def _members(value: dict[str, Any]) -> int | None:
    """How many members all objects in `value` have together; None where it is deeper than `MAX_DEPTH`."""
    members = 0
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if type(item) is dict:
                members += len(item)
                below += item.values()
            else:
                below += item
        # A prompt of 100,000 token ids is one list: looking at types is all that it may cost.
        if _CONTAINERS.isdisjoint(map(type, below)):
            return members
        level = [item for item in below if type(item) in _CONTAINERS]
    return None


def _colons_within(value: dict[str, Any]) -> int:
    """How many colons all strings in `value` have, those of keys too."""
    colons = 0
    pending: list[Any] = [value]
    for item in pending:  # which grows as objects and lists are found
        if type(item) is str:
            colons += item.count(":")
        elif type(item) is dict:
            pending += item
            pending += item.values()
        elif type(item) is list and not _MAY_HOLD_COLONS.isdisjoint(map(type, item)):
            pending += item
    return colons


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`.

    Raises:
        NotStrictJsonError: it is malformed, not UTF-8, not an object, nested deeper than `MAX_DEPTH`, has a key
            twice, a number that is not finite, or half a surrogate pair.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotStrictJsonError(f"The body is not UTF-8: byte {error.start} is wrong.") from error
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise NotStrictJsonError(f"The body is not valid JSON: {error.msg} ({where}).") from error
    except ValueError as error:  # Python refuses to read an integer of more than 4300 digits
        raise NotStrictJsonError("The body has a number with too many digits.") from error
    except RecursionError as error:
        raise _too_deep() from error
    if not isinstance(value, dict):
        raise NotStrictJsonError("The body must be a JSON object.")
    # Counting brackets is quick and nearly always answers; strings may hold brackets too, hence the second look.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise _too_deep()
    if _SURROGATE_ESCAPE.search(raw) and not _is_encodable(value):
        raise NotStrictJsonError("The body has half a surrogate pair (\\ud800 to \\udfff), which is not a character.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                shown = key[:MAX_KEY_SHOWN].encode("utf-8", "replace").decode()
                raise NotStrictJsonError(f"The body has the key {shown!r} twice in one object.", key=shown)
            seen.add(key)
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise NotStrictJsonError(f"The body has {name}, which is not JSON.")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise NotStrictJsonError(f"The body has the number {digits[:MAX_KEY_SHOWN]}, which is too large.")
    return number


def _too_deep() -> NotStrictJsonError:
    return NotStrictJsonError(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        below: list[Any] = []
        for item in level:
            below += item.values() if isinstance(item, dict) else item
        level = [item for item in below if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def _is_encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
