"""What a warm parent's environment is, and what of it a fork could not change."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.engine.plan import Accelerator
from cluster.engine.warm import environment
from cluster.engine.warm.environment import COMPATIBILITY_VARIABLE, keeps_binding, parent_environment, unchangeable


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A site-packages folder with torch and vLLM, as far as this looks."""
    for file in ("torch/__init__.py", "torch/lib/libgomp.so.1", "vllm/__init__.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.setattr(environment, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / name / "x")))
    return tmp_path


def test_on_a_gpu_it_is_the_replicas_own_but_for_threads_of_imports(site: Path) -> None:
    base = {"PATH": "/bin", "VLLM_CPU_OMP_THREADS_BIND": "0,1"}
    assert parent_environment(base, Accelerator.CUDA) == base | {"OPENBLAS_NUM_THREADS": "1"}
    named = base | {"OPENBLAS_NUM_THREADS": "4"}
    assert parent_environment(named, Accelerator.CUDA) == named


def test_one_rank_is_bound_as_vllm_binds_its_worker(site: Path) -> None:
    made = parent_environment({"VLLM_CPU_OMP_THREADS_BIND": "0,2"}, Accelerator.CPU)
    assert made["OMP_NUM_THREADS"] == "2"
    assert made["GOMP_CPU_AFFINITY"] == "0 2"
    assert made["LD_PRELOAD"] == str(site / "torch/lib/libgomp.so.1")


@pytest.mark.parametrize("binding", ["0|1", "auto", "nobind", "0-3", ""])
def test_other_bindings_are_left_to_vllm(site: Path, binding: str) -> None:
    made = parent_environment({"VLLM_CPU_OMP_THREADS_BIND": binding}, Accelerator.CPU)
    assert "GOMP_CPU_AFFINITY" not in made
    assert "OMP_NUM_THREADS" not in made


def test_libraries_go_where_vllm_puts_them(site: Path) -> None:
    (site / "vllm/libs").mkdir()
    (site / "vllm/libs/libtcmalloc_minimal.so.4").touch()
    made = parent_environment({"LD_PRELOAD": "/own.so"}, Accelerator.CPU)
    gomp, tcmalloc = site / "torch/lib/libgomp.so.1", site / "vllm/libs/libtcmalloc_minimal.so.4"
    assert made["LD_PRELOAD"] == f"{tcmalloc}:/own.so:{gomp}"


def test_another_openmp_stays_the_only_one(site: Path) -> None:
    made = parent_environment({"LD_PRELOAD": "/libiomp5.so", "VLLM_CPU_OMP_THREADS_BIND": "0"}, Accelerator.CPU)
    assert made["LD_PRELOAD"] == "/libiomp5.so"
    assert "GOMP_CPU_AFFINITY" not in made


def test_without_torch_nothing_is_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda _: None)
    assert "LD_PRELOAD" not in parent_environment({}, Accelerator.CPU)


@pytest.mark.parametrize(
    ("wanted", "settled", "names"),
    [
        ({"PATH": "/a", "VLLM_X": "1"}, {"PATH": "/b"}, []),
        ({"GOMP_CPU_AFFINITY": "0 1"}, {"GOMP_CPU_AFFINITY": "0 1"}, []),
        ({"GOMP_CPU_AFFINITY": "0 1"}, {}, ["GOMP_CPU_AFFINITY"]),
        ({"LD_PRELOAD": "/a", "KMP_BLOCKTIME": "1"}, {"LD_PRELOAD": "/b"}, ["KMP_BLOCKTIME", "LD_PRELOAD"]),
        ({}, {"GOMP_CPU_AFFINITY": "0 1"}, []),
        ({"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "2"}, []),
        ({"LD_LIBRARY_PATH": "/cv2", "TORCHINDUCTOR_CACHE_DIR": "/tmp/x"}, {}, []),
        ({"TORCHINDUCTOR_CPP_DYNAMIC_THREADS": "1"}, {}, ["TORCHINDUCTOR_CPP_DYNAMIC_THREADS"]),
        ({"VLLM_ENABLE_CUDA_COMPATIBILITY": "0"}, {"VLLM_ENABLE_CUDA_COMPATIBILITY": "0"}, []),
        ({"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"}, {"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"}, [COMPATIBILITY_VARIABLE]),
    ],
)
def test_what_a_fork_cannot_change(wanted: dict[str, str], settled: dict[str, str], names: list[str]) -> None:
    assert unchangeable(wanted, settled) == names


def test_who_asks_for_cores_keeps_them() -> None:
    assert keeps_binding({"GOMP_CPU_AFFINITY": "0"})
    assert not keeps_binding({"OMP_NUM_THREADS": "1"})
