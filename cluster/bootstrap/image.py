"""`python3 -m cluster.bootstrap.image`: what the Containerfile runs to fill /opt/longreach. Standard library only.

What lives here: a lock file's packages into an environment without pip, made small and ready for a read-only root; and
Longreach itself beside it, so that a change of the code leaves the layer with the packages alone. What must not: what a
checkout needs (install.py), and anything that runs in the finished image.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.bootstrap.install import locked_packages, torch_cuda_version
from cluster.bootstrap.vllm_name import publish_cpu_build_as_vllm

ENVIRONMENT = Path("/opt/longreach/.venv")
APP = Path("/opt/longreach/app")
CODE_PTH = "longreach.pth"
"""Puts `APP` on the path of every Python started from `ENVIRONMENT`, from any folder: KubeRay starts Ray itself."""
DEVELOPMENT_TOOLS = frozenset(
    {
        "ast-serialize",
        "graphql-core",
        "grimp",
        "grpcio-tools",
        "harfile",
        "execnet",
        "hypothesis",
        "hypothesis-graphql",
        "import-linter",
        "iniconfig",
        "jsonschema-rs",
        "librt",
        "mypy",
        "mypy-extensions",
        "pathspec",
        "pluggy",
        "pyrate-limiter",
        "pytest",
        "pytest-asyncio",
        "pytest-timeout",
        "pytest-xdist",
        "ruff",
        "schemathesis",
        "sortedcontainers",
        "types-protobuf",
        "types-psutil",
        "types-pyyaml",
        "werkzeug",
    }
)
"""In the lock for tests and linters only; a test holds it against what the packages say they need."""
GATEWAY_UNUSED = ("kubernetes/aio",)
"""The Kubernetes client once more, for asyncio: 66 MB that nothing of Longreach imports."""
GATEWAY_UNCOMPILED = r"/kubernetes/client/"
"""920 modules of which a command loads about 20, when somebody runs `longreach k8s`: 23 MB of byte code saved."""


def main(arguments: list[str] | None = None) -> int:
    """Fill the image; the exit status is 0 when it is complete."""
    parser = argparse.ArgumentParser(prog="python3 -m cluster.bootstrap.image")
    steps = parser.add_subparsers(dest="step", required=True)
    packages = steps.add_parser("packages", help="a lock file's packages")
    packages.add_argument("--lock", type=Path, required=True)
    packages.add_argument("--only", help="this package alone")
    packages.add_argument("--extra", default="", help="further packages by name, with all they need")
    steps.add_parser("code", help="Longreach itself, from the working folder")
    options = parser.parse_args(arguments)
    try:
        if options.step == "code":
            install_code(Path.cwd())
            return 0
        return install_packages(options.lock, only=options.only, extra=options.extra.split())
    except subprocess.CalledProcessError as failure:
        print(f"image: {' '.join(map(str, failure.cmd))} ended with {failure.returncode}", file=sys.stderr)
        return 1


def install_packages(lock: Path, *, only: str | None, extra: Sequence[str] = ()) -> int:
    """The packages of `lock` into `ENVIRONMENT`; the exit status is 0 when all are there.

    Args:
        lock: exact versions.
        only: one of them alone.
        extra: further packages, in the newest versions that go with those of the lock.
    """
    wanted = image_packages(lock.read_text(encoding="utf-8"), only=only)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(ENVIRONMENT)], check=True)
    # --no-deps: the lock is complete. Wheels only: nothing that is downloaded runs while the image is built.
    _pip("install", "--quiet", "--no-compile", "--no-deps", "--only-binary", ":all:", *wanted)
    if extra:
        _pip("install", "--quiet", "--no-compile", "--only-binary", ":all:", "--constraint", str(lock), *extra)
    site_packages = next(ENVIRONMENT.glob("lib/python3.*/site-packages"))
    if lock.stem == "cpu" and torch_cuda_version(site_packages) is not None:
        print(
            "image: pip found the CUDA build of torch, 5 GB of libraries a CPU never uses\n"
            "  remedy: name an index of CPU builds in the secret pip.conf, or a folder with --build-context wheels=…",
            file=sys.stderr,
        )
        return 1
    publish_cpu_build_as_vllm(site_packages)
    skipped = None
    if lock.stem == "gateway":
        _pip("check")
        make_small(site_packages)
        skipped = GATEWAY_UNCOMPILED
    (site_packages / CODE_PTH).write_text(f"{APP}\n", encoding="utf-8")
    _compile(site_packages, skipped=skipped)
    return 0


def image_packages(lock: str, *, only: str | None = None) -> tuple[str, ...]:
    """The requirement lines of a lock that belong into an image."""
    lines = locked_packages(lock)
    if only is not None:
        return tuple(line for line in lines if line.startswith(f"{only}=="))
    return tuple(line for line in lines if line.partition("==")[0] not in DEVELOPMENT_TOOLS)


def make_small(site_packages: Path) -> None:
    """Leave out what no command uses, and the symbols of native modules, which only a debugger reads."""
    for name in GATEWAY_UNUSED:
        shutil.rmtree(site_packages / name)
    # Libraries that a wheel brings along (*.libs) were patched after linking; strip can break those.
    modules = [str(path) for path in site_packages.rglob("*.so") if not path.parent.name.endswith(".libs")]
    subprocess.run(["strip", "--strip-unneeded", *modules], check=True)


def install_code(source: Path) -> None:
    """Longreach from `source` into `APP`, its script included."""
    _pip("install", "--quiet", "--no-compile", "--no-deps", "--no-build-isolation", "--target", str(APP), str(source))
    _compile(APP, skipped=None)


def _pip(*arguments: str) -> None:
    python = str(ENVIRONMENT / "bin" / "python")
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *arguments], check=True)


def _compile(folder: Path, *, skipped: str | None) -> None:
    """Byte code now: a read-only root takes none later.

    It is marked as never to be checked against its source, so that builders which set every file's time (reproducible
    builds do) do not make it stale.
    """
    command = [sys.executable, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    command += ["-x", skipped] if skipped else []
    # Some packages ship templates and Python 2 code by the name .py: what does not compile is left as it is.
    subprocess.run([*command, str(folder)], check=False, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
