"""What every test shares."""

from __future__ import annotations

import pytest
from hypothesis import settings

# This machine runs other things too: how long one example takes says nothing about the code.
settings.register_profile("longreach", deadline=None)
settings.load_profile("longreach")


def pytest_configure(config: pytest.Config) -> None:
    for library in ("ray", "torch"):
        config.addinivalue_line("filterwarnings", f"ignore::DeprecationWarning:{library}.*")
