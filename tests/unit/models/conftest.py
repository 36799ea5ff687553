"""Fixtures of the model room: a store without a hub, a tiny model, wheels for pip, a hub on loopback."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import TYPE_CHECKING

import pytest

from cluster.models.hub import HubSettings
from cluster.models.store import ModelStore
from cluster.models.tiny import TinyFetch
from tests.unit.models.loopback_hub import serve_hub
from tests.unit.models.small_gguf import write_gguf
from tests.unit.models.wheel_index import Index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.models.loopback_hub import Hub

    Killed = Callable[[Callable[[Callable[[], None]], None]], bool]
    Stages = tuple[list[str], Callable[[str, int, int | None], None]]

NOWHERE = "http://127.0.0.1:9"  # the discard port: refused at once


def silent(stage: str, done_bytes: int, total_bytes: int | None) -> None:
    pass


@pytest.fixture
def offline(tmp_path: Path) -> HubSettings:
    return HubSettings(endpoint=NOWHERE, cache_dir=tmp_path / "hub-cache", probe_timeout_s=1.0)


@pytest.fixture
def store(tmp_path: Path, offline: HubSettings) -> ModelStore:
    return ModelStore(tmp_path / "models", settings=offline)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    TinyFetch(seed=3, revision="generated-1").into(folder, folder, silent)
    return folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Index(folder)


@pytest.fixture(scope="session")
def gguf_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(path)
    return path.read_bytes()


@pytest.fixture
def hub(tiny_folder: Path) -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in sorted(tiny_folder.iterdir())}
    files |= {"modeling_evil.py": b"raise SystemExit", "pytorch_model.bin": b"\x80pickle", "README.md": b"#"}
    with serve_hub(files) as served:
        yield served


@pytest.fixture
def killed() -> Killed:
    """Runs a function in a forked process and tells whether it was killed; the function gets what kills it."""

    def run(work: Callable[[Callable[[], None]], None]) -> bool:
        process = multiprocessing.get_context("fork").Process(
            target=work, args=(lambda: os.kill(os.getpid(), signal.SIGKILL),)
        )
        process.start()
        process.join(60)
        return process.exitcode == -signal.SIGKILL

    return run


@pytest.fixture
def stages() -> Stages:
    """The stages a pull went through, in order of their first report, and the progress that notes them."""
    seen: list[str] = []

    def note(stage: str, done_bytes: int, total_bytes: int | None) -> None:
        assert done_bytes >= 0
        assert total_bytes is None or done_bytes <= total_bytes
        if stage not in seen:
            seen.append(stage)

    return seen, note
