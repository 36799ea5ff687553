"""Kubernetes quantities (`500m`, `16Gi`, `2e3`) as exact numbers.

The grammar is that of the Kubernetes API (apimachinery's resource.Quantity): a decimal number with a binary suffix, a
decimal suffix, or an exponent. What must not live here: what is measured.
"""

from __future__ import annotations

import re
from decimal import Decimal

from cluster.core.errors import SetupError

_FORM = re.compile(r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,3})?")
_FACTORS = {
    "": Decimal(1),
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
GIB = 2**30


def amount(text: str | float | None) -> Decimal:
    """The number that `text` means; None is 0.

    Raises:
        SetupError: it is no quantity.
    """
    if text is None:
        return Decimal(0)
    found = _FORM.fullmatch(str(text).strip())
    if found is None:
        raise SetupError(f"{text!r} is no Kubernetes quantity", "write it like 500m, 4, 16Gi or 2e3")
    suffix = found["suffix"] or ""
    factor = _FACTORS[suffix] if suffix in _FACTORS else Decimal(10) ** int(suffix[1:])
    return Decimal(found["number"]) * factor


def whole(text: str | float | None) -> int:
    """Rounded up to an integer, as the API does for bytes and devices."""
    number = amount(text)
    return int(number.to_integral_value(rounding="ROUND_CEILING"))


def milli(text: str | float | None) -> int:
    """Thousandths, rounded up: CPU."""
    return int((amount(text) * 1000).to_integral_value(rounding="ROUND_CEILING"))
