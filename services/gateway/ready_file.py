"""The file by which a gateway tells that it accepts connections, and where.

What must not live here: when that is (server.py, workers.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cluster.core.errors import SetupError


def write_ready_file(path: Path, told: Mapping[str, int]) -> None:
    """Write it in one step, so that nobody reads half of it.

    Raises:
        SetupError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(told), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise SetupError(
            f"the ready file {path} cannot be written: {error}", "name one in a folder that the gateway may write"
        ) from error
