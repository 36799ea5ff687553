"""The preflight judges what it is told about a machine."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cluster.bootstrap import preflight
from cluster.bootstrap.preflight import GIB, Verdict
from cluster.config import load_config
from cluster.core.errors import SetupError
from cluster.engine.hardware import Hardware
from cluster.engine.plan import Accelerator
from cluster.engine.settings import NATIVE_BF16_FLAGS, replica_plan
from cluster.local.fit import Machine, fit_pools, pool_need
from cluster.local.up import DEFAULT_CONFIG
from cluster.models.catalog import find
from tests.listener import listener


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


PLAIN = frozenset({"avx2"})
BF16 = frozenset({"avx2", "avx512_bf16"})


@pytest.mark.parametrize(
    ("gib", "flags", "verdict"),
    [
        (2, PLAIN, Verdict.FAILURE),
        (6.0, PLAIN, Verdict.FAILURE),
        (6.2, PLAIN, Verdict.WARNING),
        (10.0, PLAIN, Verdict.WARNING),
        (11.0, PLAIN, Verdict.FINE),
        (5.0, BF16, Verdict.FAILURE),
        (6.0, BF16, Verdict.WARNING),
        (10.0, BF16, Verdict.FINE),
    ],
)
def test_memory(gib: float, flags: frozenset[str], verdict: Verdict) -> None:
    finding = preflight.check_memory(int(gib * GIB), flags)
    assert finding.verdict is verdict
    assert bool(finding.remedy) is (verdict is not Verdict.FINE)


@pytest.mark.parametrize("flags", [PLAIN, BF16])
def test_memory_bounds_are_those_of_up(flags: frozenset[str]) -> None:
    """What passes here must not be refused later, once everything was downloaded, nor much less be refused here."""
    config = load_config(DEFAULT_CONFIG)
    hardware = Hardware(accelerator=Accelerator.CPU, cores=(0, 1), cpu_flags=flags, memory_bytes=64 * GIB)
    needs = {}
    for pool in config.pools:
        card = find(pool.model)
        assert card is not None
        plan = replica_plan(config, pool, card=card, folder="/m", state_url=None, hardware=hardware)
        needs[pool.name] = pool_need(pool, plan, card)
    bounds = preflight.memory_bounds(flags)
    for gib, pools in ((bounds.one_pool_gib, 1), (bounds.both_pools_gib, 2)):
        assert len(fit_pools(needs, config, Machine(available_bytes=int(gib * GIB), gpus=0)).kept) == pools
        less = Machine(available_bytes=int((gib - 0.2) * GIB), gpus=0)
        if pools == 1:
            with pytest.raises(SetupError):
                fit_pools(needs, config, less)
        else:
            assert len(fit_pools(needs, config, less).kept) == pools - 1


def test_memory_does_not_matter_when_the_cluster_runs_already() -> None:
    assert preflight.check_memory(GIB, PLAIN, cluster_runs=True).verdict is Verdict.FINE


MEMINFO = "MemTotal: 67108864 kB\nMemFree: 1 kB\nMemAvailable: 33554432 kB\n"
"""32 GiB available."""


@pytest.mark.parametrize(
    ("memory_gib", "available_gib"),
    [((16, 12, 0), 4), ((16, 12, 8), 12), ((64, 8, 4), 32), ((16, 20, 1), 0), (("max", 12, 0), 32)],
    ids=["tight", "page cache is not used", "never more than the machine has", "over its limit", "no limit"],
)
@pytest.mark.parametrize("version", [1, 2])
def test_available_memory_in_a_cgroup(
    version: int, memory_gib: tuple[int | str, int, int], available_gib: int, tmp_path: Path
) -> None:
    limit_gib, used_gib, cache_gib = memory_gib
    (tmp_path / "meminfo").write_text(MEMINFO)
    limit = limit_gib * GIB if isinstance(limit_gib, int) else "max" if version == 2 else 2**63 - 4096
    if version == 2:
        files = {"memory.max": limit, "memory.current": used_gib * GIB}
        stat = f"anon 1\nfile 9\ninactive_file {cache_gib * GIB}\nactive_file 7\n"
        folder = tmp_path
    else:
        files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used_gib * GIB}
        stat = f"cache 1\ninactive_file 5\ntotal_cache 9\ntotal_inactive_file {cache_gib * GIB}\n"
        folder = tmp_path / "memory"
        folder.mkdir()
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(stat)
    found = preflight.memory_available_bytes(tmp_path / "meminfo", tmp_path)
    assert found == available_gib * GIB


def test_available_memory_without_a_cgroup(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    assert preflight.memory_available_bytes(tmp_path / "meminfo", tmp_path) == 32 * GIB


def test_native_bf16_is_what_the_engine_takes_it_for() -> None:
    assert preflight.NATIVE_BF16_FLAGS == NATIVE_BF16_FLAGS


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
    with listener() as (pid, port):
        finding = preflight.check_port(port, "the gateway")
    assert finding.verdict is Verdict.FAILURE
    assert finding.check == f"port {port}"
    assert f"taken by process {pid} (" in finding.seen
    assert "somebody-elses-server" in finding.seen
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
