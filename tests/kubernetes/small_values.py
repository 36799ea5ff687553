"""The least values that the chart takes, and changes of them.

What must not live here: tests.
"""

from __future__ import annotations

import json
from typing import Any

MODEL = {"id": "tiny"}
POOL = {"name": "short", "model": "tiny", "context_tokens": 8192}
SMALL = {"config": {"models": [MODEL], "pools": [POOL]}, "workerGroups": {"cpu": {}}}


def changed(**parts: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(SMALL)), **parts}


def with_config(**parts: Any) -> dict[str, Any]:
    values = changed()
    values["config"] |= parts
    return values
