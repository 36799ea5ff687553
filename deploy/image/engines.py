"""Which program builds and runs images here, and what it may ask of this machine.

What must not live here: what is built (build.py, base_image.py).
"""

from __future__ import annotations

import resource
import shutil

ENGINES = ("podman", "docker")
"""podman first: it needs no daemon."""
LIMIT_ENOUGH = 20_000
"""Ray and vLLM take some hundreds of each; a runtime may refuse more than a little below the machine's own limit."""
PODMAN_LIMIT = 2**20
"""What podman, run by root, asks for: open files and processes of each container."""


class EngineMissingError(Exception):
    """There is neither podman nor docker."""

    def __str__(self) -> str:
        """What is missing, and what to do."""
        return "image: neither podman nor docker is installed\n  remedy: apt-get install podman (or install docker)"


def find_engine(wanted: str | None = None) -> str:
    """The program's name.

    Raises:
        EngineMissingError: none is installed.
    """
    for name in (wanted,) if wanted else ENGINES:
        if shutil.which(name):
            return name
    raise EngineMissingError


def limit_arguments(engine: str) -> list[str]:
    """Where this process may not grant podman's usual limits, as inside some virtual machines: its own."""
    if engine != "podman":
        return []
    arguments = []
    for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY and hard < PODMAN_LIMIT:
            granted = min(hard, LIMIT_ENOUGH)
            arguments += ["--ulimit", f"{name}={granted}:{granted}"]
    return arguments
