"""Standard output on a full disk, as /dev/full is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
WORK = """
import multiprocessing, os, sys
from cluster.engine.output import lose_what_has_no_room
if "lossy" in sys.argv:
    lose_what_has_no_room()
print("a line that has no room", flush=False)
process = multiprocessing.get_context("fork").Process(target=print, args=("from below",))
process.start()
process.join()
os._exit(process.exitcode)
"""
TWO_LINES = """
import sys
from cluster.engine.output import lose_what_has_no_room
lose_what_has_no_room()
print("ä line")
sys.stderr.write("x")
"""


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(("how", "succeeds"), [("lossy", True), ("plain", False)])
def test_a_process_can_still_be_started(how: str, succeeds: bool) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run([sys.executable, "-c", WORK, how], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode == 0) is succeeds, done.stderr.decode()


def test_what_has_room_is_written(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        subprocess.run([sys.executable, "-c", TWO_LINES], stdout=file, stderr=file, check=True)
    assert log.read_text(encoding="utf-8") == "ä line\nx"
