"""Where the public traces are, for tests that read them; they are not part of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDERS = tuple(Path(__file__).parents[up] / "shared" / "traces" for up in (1, 2))
"""Inside the checkout, or beside it."""


def public_trace(name: str) -> Path:
    """The file, or the test is skipped."""
    for folder in FOLDERS:
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"{name} is not here: put it into {FOLDERS[0].name}/ below shared/ to run this test")
