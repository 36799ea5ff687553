"""Quantities, against the official client's own reading of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from cluster.core.errors import SetupError
from cluster.kubernetes.quantity import amount, milli, whole

numbers = st.decimals(min_value=0, max_value=10**9, places=3).map(str) | st.integers(0, 10**12).map(str)
suffixes = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])


@given(numbers, suffixes)
def test_as_the_official_client_reads_them(number: str, suffix: str) -> None:
    assert amount(number + suffix) == parse_quantity(number + suffix)


@pytest.mark.parametrize(
    ("text", "value"), [("100m", 0.1), ("1e3", 1000), ("1E3", 1000), ("1E", 10**18), (".5", 0.5), (4, 4), (None, 0)]
)
def test_every_form(text: str | int | None, value: float) -> None:
    assert float(amount(text)) == value


def test_rounding_is_up_as_the_api_does_it() -> None:
    assert (milli("1.0001"), whole("1500m"), whole("1Gi")) == (1001, 2, 2**30)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1GiB", "1e", "--1", "0x10", "1_000", "inf"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match="no Kubernetes quantity"):
        amount(text)
