"""The preflight judges what it is told about a machine."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from cluster.bootstrap import preflight
from cluster.bootstrap.preflight import GIB, Verdict
from cluster.config import load_config
from cluster.local.up import DEFAULT_CONFIG


def has_everything(_name: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("system", "machine", "verdict"),
    [
        ("Linux", "x86_64", Verdict.FINE),
        ("Linux", "aarch64", Verdict.FAILURE),
        ("Darwin", "x86_64", Verdict.FAILURE),
        ("Windows", "AMD64", Verdict.FAILURE),
    ],
)
def test_system(system: str, machine: str, verdict: Verdict) -> None:
    assert preflight.check_system(system, machine).verdict is verdict


def test_cpu_without_avx2_fails_with_a_remedy() -> None:
    finding = preflight.check_cpu(frozenset({"sse4_2"}), "cpu")
    assert finding.verdict is Verdict.FAILURE
    assert "AVX2" in finding.seen
    assert finding.remedy


def test_cpu_notes_what_makes_it_faster() -> None:
    assert preflight.check_cpu(frozenset({"avx2"}), "cpu").verdict is Verdict.WARNING
    finding = preflight.check_cpu(frozenset({"avx2", "avx512f", "avx512_bf16"}), "cpu")
    assert finding.verdict is Verdict.FINE
    assert "avx512_bf16" in finding.seen


def test_cpu_does_not_matter_beside_a_gpu() -> None:
    assert preflight.check_cpu(frozenset(), "gpu").verdict is Verdict.FINE


@pytest.mark.parametrize(("gib", "verdict"), [(2, Verdict.FAILURE), (6, Verdict.WARNING), (20, Verdict.FINE)])
def test_memory(gib: int, verdict: Verdict) -> None:
    finding = preflight.check_memory(gib * GIB)
    assert finding.verdict is verdict
    assert bool(finding.remedy) is (verdict is not Verdict.FINE)


def test_memory_does_not_matter_when_the_cluster_runs_already() -> None:
    assert preflight.check_memory(GIB, cluster_runs=True).verdict is Verdict.FINE


def test_disk_says_how_much_is_missing() -> None:
    finding = preflight.check_disk("models", 3 * GIB, 4)
    assert finding.verdict is Verdict.FAILURE
    assert "1.0 GiB more" in finding.remedy
    assert preflight.check_disk("models", 5 * GIB, 4).verdict is Verdict.FINE


def test_python_without_venv_names_the_package() -> None:
    finding = preflight.check_python((3, 11), lambda name: name != "ensurepip")
    assert finding.verdict is Verdict.FAILURE
    assert "python3.11-venv" in finding.remedy


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 10), Verdict.FAILURE), ((3, 11), Verdict.FINE), ((3, 14), Verdict.WARNING)]
)
def test_python_version(version: tuple[int, int], verdict: Verdict) -> None:
    assert preflight.check_python(version, has_everything).verdict is verdict


def test_taken_port_names_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        finding = preflight.check_port(port, "the gateway")
    assert finding.verdict is Verdict.FAILURE
    assert "process" in finding.seen
    assert "python" in finding.seen
    assert preflight.check_port(port, "the gateway").verdict is Verdict.FINE


def test_default_ports_are_those_of_the_default_configuration() -> None:
    config = load_config(DEFAULT_CONFIG)
    fixed = {port for port in (config.gateway.port, config.cluster.ray_port) if port}
    assert set(preflight.DEFAULT_PORTS) == fixed


def test_whole_preflight_is_quick(tmp_path: Path) -> None:
    started = time.monotonic()
    findings = preflight.run_preflight(
        accelerator="cpu", environment=tmp_path / ".venv", cache=tmp_path / "cache", installs=True, ports={}
    )
    assert time.monotonic() - started < 2
    assert {"system", "python", "processor", "memory"} <= {finding.check for finding in findings}
