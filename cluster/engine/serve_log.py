"""Ray Serve's own log of a replica, kept whole while vLLM sets logging up for itself.

`logging.config.dictConfig`, which vLLM calls when it is imported, closes every handler there is, and a MemoryHandler
then forgets its target. A controller of Serve's that was started again asks each replica for that target's file
(`ServeReplica.is_allocated`), and stops the replica that raises: all of them, at once. What must not live here: the
replica's own log.
"""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager

SERVE_LOGGER = "ray.serve"


@contextmanager
def kept_serve_log() -> Iterator[None]:
    """Give Serve's buffering handlers their targets back in the end."""
    handlers = logging.getLogger(SERVE_LOGGER).handlers
    targets = [(one, one.target) for one in handlers if isinstance(one, logging.handlers.MemoryHandler)]
    try:
        yield
    finally:
        for handler, target in targets:
            handler.setTarget(target)
