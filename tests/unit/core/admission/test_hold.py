"""When to come back for a pool that starts."""

from __future__ import annotations

import pytest

from cluster.core.admission.hold import RETRY_AFTER_MAX_S, RETRY_AFTER_UNKNOWN_S, retry_after_s


@pytest.mark.parametrize(
    ("starts_in_s", "wanted_s"),
    [(None, RETRY_AFTER_UNKNOWN_S), (0.0, 1), (12.2, 13), (1e9, RETRY_AFTER_MAX_S), (float("inf"), RETRY_AFTER_MAX_S)],
)
def test_retry_after(starts_in_s: float | None, wanted_s: int) -> None:
    assert retry_after_s(starts_in_s) == wanted_s
