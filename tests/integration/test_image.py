"""The images, built and run: sizes, labels, any user id on a read-only root, KubeRay's way to start, a real answer.

Needs root and podman, and debootstrap where no registry can be reached; installs nothing. The engine's packages take
minutes to build the first time; later runs find them in podman's cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers import BASE_IMAGE, ROOT, Container, container, inspected, podman, why_none

BUILD_TIMEOUT_S = 3600
UP_TIMEOUT_S = 600
"""Forty seconds on an idle machine."""
READY_TIMEOUT_S = 120
COMPILE_TIMEOUT_S = 240
GATEWAY_MB_MAX = 300
ENGINE_MB_MAX = 6000
BYTES_PER_MB = 10**6
BUILD_ONLY = "/etc/pip.conf ~root/.cache ~root/.config /run/secrets/* /wheels /build /opt/longreach/.venv/bin/pip"
IDLE = ("bash", "-c", "sleep infinity & wait")
"""bash as the first process takes in orphans."""

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(BUILD_TIMEOUT_S + UP_TIMEOUT_S)]

ENGINE_CONFIG = """
cluster: {name: image, ray_port: 0}
models:
  - id: tiny
pools:
  - name: only
    model: tiny
    context_tokens: 4096
    engine: {dtype: float32}
gateway: {port: 8080}
"""
FRONT_CONFIG = """
cluster: {name: front}
models:
  - {id: tiny, source: org/any}
pools:
  - name: engine
    model: tiny
    context_tokens: 4096
    endpoints: [{url: "http://127.0.0.1:8080"}]
gateway: {port: 18080, grpc: {port: 18082}}
"""


@dataclass(frozen=True)
class Images:
    engine: str
    gateway: str


@pytest.fixture(scope="module")
def images() -> Images:
    """Both, built as `make image` builds them."""
    reason = why_none()
    if reason:
        pytest.skip(reason)
    folder = ROOT / "deploy/image"
    if subprocess.run(["podman", "image", "exists", BASE_IMAGE], check=False).returncode != 0:
        subprocess.run([sys.executable, str(folder / "base_image.py")], check=True, timeout=BUILD_TIMEOUT_S)
    command = [sys.executable, str(folder / "build.py"), "--engine", "podman", "--pip-like-here"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    assert built.returncode == 0, built.stdout[-5000:] + built.stderr[-5000:]
    names = [line.split()[0] for line in built.stdout.splitlines() if line.endswith("MB uncompressed")]
    return Images(engine=names[0], gateway=names[1])


@pytest.fixture(scope="module")
def engine(images: Images) -> Iterator[Container]:
    with container(images.engine, IDLE, user="4242:0") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(images: Images) -> Iterator[Container]:
    with container(images.gateway, IDLE, user="5151:0") as running:
        yield running


def test_sizes(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    sizes_mb = {name: inspected(name)["Size"] / BYTES_PER_MB for name in (images.engine, images.gateway)}
    with capsys.disabled():
        for name, size_mb in sizes_mb.items():
            sys.stdout.write(f"\n{name}: {size_mb:.0f} MB uncompressed\n")
    assert sizes_mb[images.gateway] < GATEWAY_MB_MAX
    assert sizes_mb[images.engine] < ENGINE_MB_MAX


def test_settings_and_labels(images: Images) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name, title in ((images.engine, "longreach"), (images.gateway, "longreach-gateway")):
        found = inspected(name)
        settings, labels = found["Config"], found["Labels"]
        assert settings["User"] == "10001:0"
        assert not settings.get("Entrypoint"), "KubeRay brings the whole command"
        assert labels["org.opencontainers.image.title"] == title
        assert labels["org.opencontainers.image.version"] == "0.1.0"
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
        revision = labels["org.opencontainers.image.revision"].removesuffix("-dirty")
        assert revision == head.strip(), "of this build, not of one in the builder's cache"
        for label in ("description", "created", "base.name"):
            assert labels[f"org.opencontainers.image.{label}"]


def test_nothing_of_the_build_is_left(images: Images, engine: Container, gateway: Container) -> None:
    for name in (images.engine, images.gateway):
        history = podman("history", "--no-trunc", "--format", "{{.CreatedBy}}", name)
        assert "://" not in history, "no address of a mirror"
    for running in (engine, gateway):
        assert running.run("bash", "-c", f"ls -d {BUILD_ONLY} 2>/dev/null || true") == ""
        raising = running.run("bash", "-c", "find / -xdev -type f -perm /6000 2>/dev/null || true")
        assert raising == "", "no program raises its rights"


def test_the_code_cannot_be_changed(engine: Container, gateway: Container) -> None:
    for running in (engine, gateway):
        writable = "find /opt /usr /etc -xdev -writable -not -type l 2>/dev/null | head -3"
        assert running.run("bash", "-c", writable) == ""


def test_gateway_image_has_no_engine(gateway: Container) -> None:
    names = ["ray", "vllm", "torch", "transformers", "numpy", "pytest"]
    text = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    assert gateway.run("python", "-c", text).strip() == "[]"


def test_gateway_image_runs_its_commands(gateway: Container) -> None:
    commands = [
        "gateway --help",
        "chat --help",
        "keys list --help",
        "models pull --help",
        "models list",
        "config schema",
    ]
    commands += ["keys create --tenant someone --file /var/lib/longreach/keys.yaml"]
    commands += ["k8s --help"] if (ROOT / "cluster/cli/k8s.py").exists() else []
    for command in commands:
        assert gateway.run("longreach", *command.split())
    gateway.run("python", "-c", "import kubernetes.client as c; c.CoreV1Api, c.CustomObjectsApi, c.AppsV1Api")


def test_engine_image_finds_everything_from_any_folder(engine: Container) -> None:
    text = """
import getpass, importlib.metadata, json, os
import cluster.control, cluster.engine.vllm_engine, ray.serve, kubernetes.client
import ray.autoscaler._private.kuberay.run_autoscaler
import vllm.envs, vllm.platforms
from torch._inductor.runtime.cache_dir_utils import cache_dir
from triton import knobs
folders = [vllm.envs.VLLM_CACHE_ROOT, vllm.envs.VLLM_CONFIG_ROOT, cache_dir(), knobs.cache.dir, os.path.expanduser("~")]
print(json.dumps({"vllm": importlib.metadata.version("vllm"), "longreach": importlib.metadata.version("longreach"),
  "device": vllm.platforms.current_platform.device_type, "user": getpass.getuser(), "folders": folders}))
"""
    for folder in ("/", "/usr/lib"):
        found = json.loads(engine.run("bash", "-c", 'cd "$0" && python -c "$1"', folder, text).splitlines()[-1])
        assert (found["vllm"], found["device"], found["user"]) == ("0.32.0+cpu", "cpu", "longreach")
        assert all(name.startswith(("/tmp/", "/var/lib/longreach")) for name in found["folders"]), found["folders"]


def test_kernels_compile(engine: Container) -> None:
    """What a pool with `eager: false`, the default on GPUs, asks of the image: a compiler and Python's headers."""
    text = "import torch; print(torch.compile(lambda x: (x.sin() * 2).sum())(torch.zeros(64)).item())"
    assert engine.run("python", "-c", text, timeout_s=COMPILE_TIMEOUT_S).strip() == "0.0"


def test_ray_starts_as_kuberay_starts_it(images: Images) -> None:
    start = "ray start --head --node-ip-address=127.0.0.1 --dashboard-host=0.0.0.0 --num-cpus=1 --block"
    command = ("/bin/bash", "-c", "--", f"{start} --dashboard-agent-listen-port=52365")
    with container(images.engine, command, user="4242:0") as running:
        for address in ("localhost:52365/api/local_raylet_healthz", "localhost:8265/api/gcs_healthz"):
            probe = f"wget --tries 1 -T 2 -q -O- http://{address} | grep success"  # the operator's own words
            running.until(probe, timeout_s=READY_TIMEOUT_S)
        told = running.run("wget", "-q", "-O-", "http://localhost:8265/api/serve/applications/")
        assert json.loads(told)["applications"] == {}
        running.run("ray", "health-check", "--address", "127.0.0.1:6379")


def test_an_answer_as_any_user_on_a_read_only_root(images: Images, tmp_path: Path) -> None:
    """Engine and, in front of it, the gateway's image: no network but their loopback, two user ids without a name."""
    settings, front = tmp_path / "engine", tmp_path / "front"
    for folder, text in ((settings, ENGINE_CONFIG), (front, FRONT_CONFIG)):
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
    where = "/etc/longreach/config"
    config = ("--config", f"{where}/config.yaml")
    with container(images.engine, IDLE, user="4242:0", mounts={settings: where}) as engine:
        engine.run("longreach", "up", *config, "--no-question", timeout_s=UP_TIMEOUT_S)
        question = {"model": "tiny", "max_tokens": 8, "messages": [{"role": "user", "content": "hello"}]}
        posting = ("--header", "content-type: application/json", "--post-data", json.dumps(question))
        answer = json.loads(engine.run("wget", "-q", "-O-", *posting, "http://127.0.0.1:8080/v1/chat/completions"))
        assert answer["choices"][0]["message"]["content"]
        assert answer["usage"]["completion_tokens"] == 8

        network = f"container:{engine.name}"
        with container(images.gateway, user="5151:0", network=network, mounts={front: where}) as gateway:
            gateway.until("exec 3<>/dev/tcp/127.0.0.1/18080", timeout_s=READY_TIMEOUT_S)
            chat = ("longreach", "chat", "--url", "http://127.0.0.1:18080", "--max-tokens", "8", "--json", "hello")
            assert json.loads(gateway.run(*chat))

        engine.run("longreach", "down", *config)
        left = [name for name in engine.processes() if not name.startswith(("(bash)", "(sleep)"))]
        assert left == [], "nothing runs on, and nothing is a zombie"
