"""Serve's log survives that vLLM configures logging."""

from __future__ import annotations

import logging
import logging.config
import logging.handlers
from collections.abc import Iterator

import pytest

from cluster.engine.serve_log import SERVE_LOGGER, kept_serve_log


@pytest.fixture
def handler() -> Iterator[logging.handlers.MemoryHandler]:
    found = logging.handlers.MemoryHandler(10, target=logging.NullHandler())
    logger = logging.getLogger(SERVE_LOGGER)
    logger.addHandler(found)
    yield found
    logger.removeHandler(found)


def test_targets_come_back(handler: logging.handlers.MemoryHandler) -> None:
    target = handler.target
    with kept_serve_log():
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        assert handler.target is None, "the reason for all this is gone"
    assert handler.target is target
