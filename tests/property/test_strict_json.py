"""The quick reader never takes what the careful one refuses, and never reads anything else than it does."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.strict_json import parse_object, parse_quickly

CHARACTERS = st.sampled_from(':{}[],"\\ab\n你\U0001f600')


@st.composite
def strings(draw: st.DrawFn) -> str:
    """A JSON string, each character as itself or as an escape."""
    written = ""
    for character in draw(st.lists(CHARACTERS, max_size=4)):
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        units = character.encode("utf-16-be").hex()
        escaped = "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
        written += draw(st.sampled_from([plain, escaped, escaped.replace("a", "A")]))
    return f'"{written}"'


def joined(items: list[str]) -> str:
    return ", ".join(items)


SCALARS = st.sampled_from(["null", "true", "-0", "1", "1.5e3", "18446744073709551615"]) | strings()


def members(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """An object, whose keys may come twice."""
    keys = st.sampled_from(['"a"', '"\\u0061"', '"b"', '":"', '"\\u003a"']) | strings()
    pairs = st.tuples(keys, values).map(":".join)
    return st.lists(pairs, max_size=3).map(lambda found: f"{{{joined(found)}}}")


VALUES = st.recursive(
    SCALARS, lambda inner: members(inner) | st.lists(inner, max_size=3).map(lambda found: f"[{joined(found)}]")
)


def check(raw: bytes) -> dict[str, Any] | None:
    found = parse_quickly(raw)
    if found is not None:
        assert found == parse_object(raw)
    return found


@settings(max_examples=1000, deadline=None)
@given(text=members(VALUES))
def test_written_in_any_way_and_with_keys_twice(text: str) -> None:
    check(text.encode())


@given(raw=st.binary(max_size=50).map(lambda middle: b'{"a":' + middle + b"}"))
def test_any_bytes(raw: bytes) -> None:
    check(raw)


@settings(deadline=None)
@given(
    value=st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
        | st.text(),
    ),
    escapes=st.booleans(),
)
def test_what_json_libraries_write_is_read_quickly(value: dict[str, Any], *, escapes: bool) -> None:
    raw = json.dumps(value, ensure_ascii=escapes).encode()
    assert check(raw) == value
