"""`make lock`: pins locks/*.in into locks/*.txt with uv. Standard library only.

uv runs in an environment of its own, because it is no part of Longreach. What must not live here: choosing packages
(the .in files) and leaving some out (cpu-overrides.txt).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHERE = {
    "cpu": "the environment on a machine without a GPU, pinned exactly",
    "gpu": "the environment on a machine with an NVIDIA GPU, pinned exactly",
    "gateway": "the gateway's image, pinned exactly, at the versions of cpu.txt",
    "guidellm": "guidellm's own environment, pinned exactly",
}
PLACES = {"guidellm": HERE.parent / "loadtest" / "judges"}
"""Of locks that a program installs from: within its package. The others are here."""
CPU_ONLY = ("cpu", "guidellm")
"""Locks with the CPU build of torch."""
FOLLOWS = {"gateway": "cpu"}
"""Locks that take every version they share from another one, compiled before them."""
LOCAL_PART = re.compile(r"^(\S+==[^+\s]+)\+\S+$")


def main() -> int:
    """Compile every lock; `LONGREACH_UV_ARGS` names further places to look, as for the CPU build of torch."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
        for name, where in WHERE.items():
            pinned = _compile(python, name)
            if name in CPU_ONLY and any(line.startswith("nvidia-") for line in pinned):
                print(
                    f"{name}: uv found no CPU build of torch and would pin CUDA's libraries; it was not changed.\n"
                    '  remedy: LONGREACH_UV_ARGS="--find-links FOLDER_OR_URL" make lock',
                    file=sys.stderr,
                )
                return 1
            how = "Installed as pip's constraints" if name in PLACES else "Installed with --no-deps: it is complete"
            header = (
                f"# Every package of {where}. {how}.\n"
                f"# Regenerate with `make lock` (from locks/{name}.in); do not edit.\n"
            )
            place = PLACES.get(name, HERE) / f"{name}.txt"
            place.write_text(header + "\n".join(pinned) + "\n", encoding="utf-8")
            print(f"{place.relative_to(HERE.parent)}: {len(pinned)} packages")
    return 0


def _compile(python: str, name: str) -> list[str]:
    command = [python, "-m", "uv", "pip", "compile", str(HERE / f"{name}.in"), "--python-version", "3.11"]
    command += ["--no-header", "--no-annotate", "--quiet"]
    overrides = HERE / f"{name}-overrides.txt"
    if overrides.exists():
        command += ["--override", str(overrides)]
    if name in FOLLOWS:
        command += ["--constraint", str(HERE / f"{FOLLOWS[name]}.txt")]
    # Without these uv writes the addresses it used into the file.
    command += ["--no-emit-index-url", "--no-emit-find-links"]
    command += shlex.split(os.environ.get("LONGREACH_UV_ARGS", ""))
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # A local version (2.13.0+cpu) names one builder's file; the release is what is meant.
    return [LOCAL_PART.sub(r"\1", line.strip()) for line in output.splitlines() if line.strip()]


if __name__ == "__main__":
    sys.exit(main())
