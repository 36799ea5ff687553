"""Running pip so that people see how far it is, and only that.

What lives here: one pip run, its log, its progress. What must not: which packages.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

POLL_S = 0.5
PLAIN_INTERVAL_S = 15
"""How often a line is printed where the line cannot be rewritten (a CI log)."""
TAIL_LINES = 25
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal a process gets when its parent dies."""


class PipFailedError(Exception):
    """pip gave up; the message holds the end of its log."""


@dataclass(kw_only=True)
class PipRun:
    """One pip command, shown as one line."""

    python: Path
    site_packages: Path
    log: Path
    total: int
    """Packages to expect, for the display."""
    out: TextIO = field(default_factory=lambda: sys.stdout)

    def __call__(self, *arguments: str, title: str) -> None:
        """Run `pip ARGUMENTS` to its end.

        Raises:
            PipFailedError: it failed.
        """
        argv = [str(self.python), "-m", "pip", *arguments, "--no-input", "--disable-pip-version-check"]
        started = time.monotonic()
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ pip {' '.join(arguments)}\n")
            log.flush()
            start_bytes = log.tell()
            environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PIP_PROGRESS_BAR": "off"}
            with subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads here; an orphaned pip would race its successor
            ) as process:
                try:
                    self._watch(process, start_bytes, title, started)
                except BaseException:
                    process.kill()
                    raise
        if process.returncode:
            raise PipFailedError(_tail(self.log, start_bytes))
        self._show(f"{title}: done in {time.monotonic() - started:.0f} s", last=True)

    def _watch(self, process: subprocess.Popen[bytes], start_bytes: int, title: str, started: float) -> None:
        shown_at = started
        while True:
            try:
                process.wait(timeout=POLL_S)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                if self.out.isatty() or now - shown_at >= PLAIN_INTERVAL_S:
                    shown_at = now
                    with self.log.open(encoding="utf-8", errors="replace") as log:
                        log.seek(start_bytes)
                        state = describe_progress(log.read(), installed=self._installed(), total=self.total)
                    self._show(f"{title}: {state}, {now - started:.0f} s")
            else:
                return

    def _installed(self) -> int:
        return sum(1 for _ in self.site_packages.glob("*.dist-info"))

    def _show(self, text: str, *, last: bool = False) -> None:
        if self.out.isatty():
            self.out.write(f"\r\x1b[2K  {text}" + ("\n" if last else ""))
        else:
            self.out.write(f"  {text}\n")
        self.out.flush()


_COLLECTING = re.compile(r"^(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)", re.MULTILINE)
_DOWNLOADING = re.compile(r"^\s+Downloading \S+ \(([0-9.]+) (kB|MB|GB)\)", re.MULTILINE)
_MEGABYTES = {"kB": 0.001, "MB": 1.0, "GB": 1000.0}


def describe_progress(log: str, *, installed: int, total: int) -> str:
    """How far pip is, from what it has printed and from what is on disk."""
    if "\nInstalling collected packages" in log:
        return f"unpacked {min(installed, total)} of {total} packages"
    names = _COLLECTING.findall(log)
    megabytes = sum(float(size) * _MEGABYTES[unit] for size, unit in _DOWNLOADING.findall(log))
    current = f" ({names[-1]})" if names else ""
    return f"fetched {min(len(names), total)} of {total} packages{current}, {megabytes:.0f} MB downloaded"


def _tail(log: Path, start_bytes: int) -> str:
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(start_bytes)
        lines = [line for line in file.read().splitlines() if not line.startswith("WARNING: Location")]
    return "\n".join(lines[-TAIL_LINES:])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
