"""What this process is and has: its version, its memory.

What must not live here: what is done with it (metrics.py).
"""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

STATM = Path("/proc/self/statm")
"""proc(5): sizes in pages, the second is the resident one."""


@cache
def program_version() -> str:
    """Longreach's; `unknown` where it runs from a folder that nobody installed."""
    try:
        return version("longreach")
    except PackageNotFoundError:
        return "unknown"


def resident_bytes() -> int:
    """Of this process now; 0 where the system does not tell (no /proc)."""
    try:
        return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
