"""A scenario's options: fields with a default, bounds and a sentence, set by `key=value`.

What must not live here: any scenario.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from math import isfinite
from typing import Any

from cluster.core.errors import SetupError

_KEY = "option"
_WORDS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One option, for listings and for checks. Its type is its default's."""

    name: str
    default: int | float | bool | str
    about: str
    low: float | None = None
    high: float | None = None
    choices: Sequence[str] = ()

    def read(self, text: str) -> int | float | bool | str:
        """The value that a text means.

        Raises:
            SetupError: it is of another type, or out of bounds.
        """
        if isinstance(self.default, bool):
            if text.lower() not in _WORDS:
                raise self._wrong(text, "yes or no")
            return _WORDS[text.lower()]
        if isinstance(self.default, str):
            if self.choices and text not in self.choices:
                raise self._wrong(text, f"one of {', '.join(self.choices)}")
            return text
        try:
            value = int(text.replace("_", "")) if isinstance(self.default, int) else float(text)
        except ValueError:
            raise self._wrong(text, self.bounds) from None
        low, high = self.low, self.high
        if not isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
            raise self._wrong(text, self.bounds)
        return value

    @property
    def bounds(self) -> str:
        """What it takes, in words."""
        if isinstance(self.default, bool):
            return "yes or no"
        if isinstance(self.default, str):
            return " | ".join(self.choices) or "text"
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        low = "" if self.low is None else f" from {self.low:,g}" if self.low < 10**6 else f" from {self.low:,.0f}"
        return kind + low + ("" if self.high is None else f" to {self.high:,.0f}" if self.high > 1 else " to 1")

    def _wrong(self, text: str, takes: str) -> SetupError:
        return SetupError(f"--set {self.name}={text}: not {takes}", f"{self.about} Default: {shown(self.default)}")


def option(
    default: Any, about: str, *, low: float | None = None, high: float | None = None, choices: Sequence[str] = ()
) -> Any:
    """A field of an options class.

    Args:
        default: of the type that the option has.
        about: one sentence, with the unit.
        low: the least.
        high: the most.
        choices: of a text.
    """
    return field(default=default, metadata={_KEY: (about, low, high, tuple(choices))})


def specs(kind: type[Any]) -> tuple[OptionSpec, ...]:
    """The options of a class, in order."""
    found = []
    for one in fields(kind):
        about, low, high, choices = one.metadata[_KEY]
        default: Any = one.default
        found.append(OptionSpec(name=one.name, default=default, about=about, low=low, high=high, choices=choices))
    return tuple(found)


def read_settings(scenario: str, kind: type[Any], settings: Iterable[str]) -> dict[str, int | float | bool | str]:
    """What `key=value` texts set; the last of a key counts.

    Raises:
        SetupError: a key is unknown or a value wrong.
    """
    known = {spec.name: spec for spec in specs(kind)}
    values: dict[str, int | float | bool | str] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        name = key.strip().replace("-", "_")
        if not sign or name not in known:
            near = get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
            what = "is no key=value" if not sign else f"is no option of {scenario}"
            raise SetupError(f"--set {setting} {what}", remedy)
        values[name] = known[name].read(text.strip())
    return values


def shown(value: float | str) -> str:
    """A value as one would set it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
