"""Reading what another version may have written to the state store.

What must not live here: keys, and what any value means.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def understood(parse: Callable[[Any], T], text: str | bytes | None) -> T | None:
    """What `parse` makes of this JSON; None where it is absent, or of a version that this one cannot read."""
    if text is None:
        return None
    try:
        return parse(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
