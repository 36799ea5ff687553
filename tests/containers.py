"""Containers as a restricted pod runs them: any user id, read-only root, no capabilities, no network.

What must not live here: what is in an image, and how it is built.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BASE_IMAGE = "docker.io/library/debian:bookworm-slim"
COMMAND_TIMEOUT_S = 120
STOP_S = 5
WRITABLE = ("/tmp", "/var/lib/longreach", "/models")
"""All that a container of ours may write to."""


def why_none() -> str:
    """Why no image can be built here; empty where one can."""
    if shutil.which("podman") is None:
        return "podman is not installed (Debian: apt-get install podman)"
    if os.geteuid() != 0:
        return "root is needed: the tests run containers under user ids of their own"
    has_base = subprocess.run(["podman", "image", "exists", BASE_IMAGE], check=False).returncode == 0
    if not has_base and shutil.which("debootstrap") is None:
        return f"there is neither {BASE_IMAGE} nor debootstrap to make it (Debian: apt-get install debootstrap)"
    return ""


def podman(*arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """What podman prints; an error carries what it complained about."""
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"podman {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def inspected(image: str) -> dict[str, Any]:
    """All that podman knows of an image."""
    found: dict[str, Any] = json.loads(podman("image", "inspect", image))[0]
    return found


@dataclass(frozen=True)
class Container:
    """One that runs."""

    name: str

    def try_run(self, *command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        argv = ["podman", "exec", self.name, *command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)

    def run(self, *command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command in it that has to succeed; what it prints."""
        done = self.try_run(*command, timeout_s=timeout_s)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def until(self, script: str, *, timeout_s: float) -> None:
        """Wait until a bash script succeeds in it: one `podman exec` in all, because each takes a core for a while."""
        loop = 'until bash -c "$0"; do sleep 0.5; done >/dev/null 2>&1'
        self.run("timeout", str(timeout_s), "bash", "-c", loop, script, timeout_s=timeout_s + COMMAND_TIMEOUT_S)

    def logs(self) -> str:
        """What its first process printed."""
        done = subprocess.run(["podman", "logs", self.name], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def processes(self) -> list[str]:
        """Names of its processes, zombies marked."""
        script = 'for stat in /proc/[0-9]*/stat; do read -r _ name state _ < "$stat" && echo "$name $state"; done'
        return self.run("bash", "-c", script).splitlines()


@contextmanager
def container(
    image: str,
    command: Sequence[str] = (),
    *,
    user: str,
    network: str = "none",
    mounts: Mapping[Path, str] | None = None,
) -> Iterator[Container]:
    """Run `image` as the strictest pod would; it is gone at the end."""
    name = f"longreach-test-{uuid.uuid4().hex[:8]}"
    limits = runpy.run_path(str(ROOT / "deploy/image/engines.py"))["limit_arguments"]("podman")
    options = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--shm-size", "1g", *limits]
    for folder in WRITABLE:
        options += ["--tmpfs", f"{folder}:exec"]  # as an emptyDir is; podman's own default refuses compiled kernels
    for here, there in (mounts or {}).items():
        options += ["--volume", f"{here}:{there}:ro"]
    podman("run", "--detach", "--name", name, "--user", user, "--network", network, *options, image, *command)
    try:
        yield Container(name)
    finally:
        podman("rm", "--force", "--time", str(STOP_S), name)
