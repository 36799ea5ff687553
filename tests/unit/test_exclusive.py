"""The lock: one holder, named to whoever comes second, freed by any kind of end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.exclusive import HeldError, hold

HOLDER = """
import sys, time
from pathlib import Path
from cluster.exclusive import hold
with hold(Path(sys.argv[1]), purpose="a test"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_holder_is_refused_and_told_who(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    with hold(path, purpose="`longreach up`"):
        message = rf"`longreach up` is already at work: process {os.getpid()}, since \d\d:"
        with pytest.raises(HeldError, match=message), hold(path, purpose="another"):
            pass
    with hold(path, purpose="another"):
        pass


def test_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HeldError) as refused, hold(path, purpose="mine"):
            pass
        assert refused.value.pid == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with hold(path, purpose="mine"):
        pass
