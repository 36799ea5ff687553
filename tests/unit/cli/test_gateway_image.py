"""The commands of the gateway's image run on what that image holds: a folder of its lock's packages and no other."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.bootstrap.image import GATEWAY_UNUSED
from cluster.bootstrap.install import locked_packages

ROOT = Path(__file__).parents[3]
COMMAND_TIMEOUT_S = 60
READY_TIMEOUT_S = 30
PYTHON = (sys.executable, "-S")
"""Without this environment's own packages."""

CONFIG = """
cluster: {name: image}
models:
  - {id: any, source: org/any}
pools:
  - name: only
    model: any
    context_tokens: 4096
    endpoints: [{url: "http://127.0.0.1:9"}]
gateway: {port: 0}
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to every file of the packages in the gateway's lock."""
    site = tmp_path_factory.mktemp("site")
    for line in locked_packages((ROOT / "locks/gateway.txt").read_text(encoding="utf-8")):
        for file in importlib.metadata.files(line.partition("==")[0]) or []:
            if ".." in file.parts or str(file).startswith(GATEWAY_UNUSED):
                continue
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).symlink_to(file.locate())
    return site


@pytest.fixture
def image(tmp_path: Path, packages: Path) -> dict[str, str]:
    """The environment of a process that sees only the image's packages."""
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    folders = {"LONGREACH_STATE": str(tmp_path / "state"), "LONGREACH_CACHE": str(tmp_path / "cache")}
    return {**os.environ, **folders, "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{packages}:{ROOT}"}


def run(env: dict[str, str], tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTHON, *command],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("name", ["ray", "vllm", "torch", "transformers", "numpy", "gguf"])
def test_the_rest_is_not_there(image: dict[str, str], tmp_path: Path, name: str) -> None:
    done = run(image, tmp_path, "-c", f"import {name}")
    assert "ModuleNotFoundError" in done.stderr


def test_every_module_of_the_gateway_can_be_imported(image: dict[str, str], tmp_path: Path) -> None:
    """Those of `longreach k8s` and `longreach plan` too."""
    elsewhere = {
        "cluster.models.tiny_weights",  # arrays, by numpy
        "cluster.models.safetensors_writer",
        "cluster.models.gguf_conversion",
        "services.grpc.generate",  # the compiler, a tool of `make proto`
    }
    names = []
    for folder in ("services", "cluster/cli", "cluster/config", "cluster/core", "cluster/state", "cluster/models"):
        names += [str(path.relative_to(ROOT).with_suffix("")) for path in (ROOT / folder).rglob("*.py")]
    for folder in ("cluster/kubernetes", "cluster/planner", "cluster/gpus"):
        names += [str(path.relative_to(ROOT).with_suffix("")) for path in (ROOT / folder).rglob("*.py")]
    modules = sorted({name.replace("/", ".").removesuffix(".__init__") for name in names if "__main__" not in name})
    text = "\n".join(f"import {module}" for module in modules if module not in elsewhere)
    (tmp_path / "imports.py").write_text(text, encoding="utf-8")
    done = run(image, tmp_path, "imports.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "gateway --help",
        "chat --help",
        "config check config.yaml",
        "config schema",
        "keys create --tenant someone --file keys.yaml",
        "models list",
        "models --help",
        "plan gpus",
        "plan --model tiny --gpu L4 --workload 2,800,100 --emit values",
    ],
)
def test_a_command_runs(image: dict[str, str], tmp_path: Path, arguments: str) -> None:
    done = run(image, tmp_path, "-m", "cluster.cli", *arguments.split())
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_model_that_is_computed_is_refused_with_a_remedy(image: dict[str, str], tmp_path: Path) -> None:
    done = run(image, tmp_path, "-m", "cluster.cli", "models", "pull", "tiny")
    assert done.returncode == 1
    assert "numpy" in done.stderr
    assert "the engine's image" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_gateway_serves(image: dict[str, str], tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    command = [*PYTHON, "-m", "cluster.cli", "gateway", "--config", "config.yaml", "--ready-file", str(ready)]
    process = subprocess.Popen(command, env=image, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        is_ready = ready.exists()
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=READY_TIMEOUT_S)
    assert is_ready, output.decode()
    assert not re.search("Traceback|No module named", output.decode())
