"""The service level of a load test, and which requests kept it.

What must not live here: counting them.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.autoscaling import ServiceLevel
from cluster.core.errors import SetupError
from loadtest.record import Record
from loadtest.report.times import e2e_s, tpot_s, ttft_s

USUAL = ServiceLevel()
"""The autoscaler's, and `longreach simulate`'s."""
FORM = "as ttft=2,ttft_per_1k=0.25,itl=0.1,e2e=30, in seconds"
KEYS = {"ttft": "ttft_s", "ttft_per_1k": "ttft_s_per_1k_tokens", "itl": "itl_s", "e2e": "e2e_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What a request is promised."""

    ttft_s: float = USUAL.ttft_s
    """To the first token of a short prompt."""
    ttft_s_per_1k_tokens: float = USUAL.ttft_s_per_1k_tokens
    """And more for each thousand tokens of the prompt."""
    itl_s: float = USUAL.itl_s
    """Between two tokens, in the mean of a request (TPOT)."""
    e2e_s: float | None = None
    """To the last token; None: whatever it takes."""

    def __str__(self) -> str:
        e2e = "" if self.e2e_s is None else f", whole answer within {self.e2e_s:g} s"
        return (
            f"first token within {self.ttft_s:g} s and {self.ttft_s_per_1k_tokens:g} s for each 1,000 prompt tokens, "
            f"{self.itl_s:g} s between tokens{e2e}"
        )


def parse_level(text: str | None) -> Level:
    """The level that `ttft=2,itl=0.05` means; what is left out is the usual.

    Raises:
        SetupError: it means nothing.
    """
    values: dict[str, float] = {}
    for part in filter(None, (text or "").split(",")):
        key, _, number = part.partition("=")
        name = KEYS.get(key.strip().replace("-", "_"))
        if name is None:
            raise SetupError(f"{part!r} is no part of a service level", f"name {', '.join(KEYS)}, {FORM}")
        try:
            values[name] = float(number)
        except ValueError:
            raise SetupError(f"{part!r} has no number of seconds", FORM) from None
        if not 0 <= values[name] < float("inf") or (not values[name] and name != "ttft_s_per_1k_tokens"):
            raise SetupError(f"{part!r} is not above 0", FORM)
    return Level(**values)


def is_good(record: Record, level: Level) -> bool:
    """Whether a request was answered in full, its first token, the others and the last in time.

    One that was refused or broke off is not good, however early. An answer of one token has no time between tokens.
    """
    first_s = ttft_s(record)
    if record.error or first_s is None:
        return False
    between_s = tpot_s(record)
    return (
        first_s <= level.ttft_s + level.ttft_s_per_1k_tokens * record.prompt_tokens / 1000
        and (between_s is None or between_s <= level.itl_s)
        and (level.e2e_s is None or e2e_s(record) <= level.e2e_s)
    )
