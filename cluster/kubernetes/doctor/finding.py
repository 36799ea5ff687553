"""What a check says: how bad it is, what was seen, what to do.

What must not live here: checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is. An error blocks: installing fails, or what is installed does not serve."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    severity: Severity
    seen: str
    remedy: str = ""

    @property
    def blocks(self) -> bool:
        """Whether it ends the command with exit status 1."""
        return self.severity is Severity.ERROR


def fine(check: str, seen: str) -> Finding:
    """Nothing to do."""
    return Finding(check=check, severity=Severity.OK, seen=seen)


def note(check: str, seen: str, remedy: str = "") -> Finding:
    """Worth knowing; nothing is wrong."""
    return Finding(check=check, severity=Severity.NOTE, seen=seen, remedy=remedy)


def warning(check: str, seen: str, remedy: str) -> Finding:
    """Something will be missing or slower."""
    return Finding(check=check, severity=Severity.WARNING, seen=seen, remedy=remedy)


def error(check: str, seen: str, remedy: str) -> Finding:
    """It will not work."""
    return Finding(check=check, severity=Severity.ERROR, seen=seen, remedy=remedy)
