"""A replica's model arrives: through outages, at the right revision, with words for people; a real hub on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cluster.core.errors import ModelStoreError, SetupError, SourceAwayError
from cluster.engine import arrival
from cluster.engine.arrival import settled
from cluster.engine.order import ReplicaOrder
from cluster.engine.plan import ReplicaPlan
from cluster.environment import Environment, read_environment
from cluster.models import ranged_download
from cluster.models.hub import HubSettings
from cluster.models.progress import Progress
from cluster.models.store import ModelStore
from cluster.sockets import free_port
from tests.cluster_harness import until
from tests.unit.engine.plans import config, plan
from tests.unit.engine.revised import REVISION, store_with_revision
from tests.unit.models.loopback_hub import Hub, serve_hub

LIMIT_S = 30.0
HUB_MODEL = "{id: tiny, source: org/model}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(arrival, "MAX_PAUSE_S", 0.02)
    monkeypatch.setattr(arrival, "TELL_S", 0.01)
    monkeypatch.setattr(ranged_download, "RETRY_PAUSE_S", 0.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = ModelStore(tmp_path_factory.mktemp("models"), settings=HubSettings()).pull("tiny")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with serve_hub(files) as served:
        yield served


class Told:
    """What people were told."""

    def __init__(self) -> None:
        self.details: list[str] = []
        self.errors: list[str] = []

    async def __call__(self, detail: str, *, error: str = "") -> None:
        self.details.append(detail)
        if error:
            self.errors.append(error)


def node(tmp_path: Path, endpoint: str) -> Environment:
    return read_environment({"LONGREACH_CACHE": str(tmp_path), "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)})


def order(model: str = HUB_MODEL) -> ReplicaOrder:
    return ReplicaOrder(config=config("context_tokens: 4096", model=model), pool_name="short")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_outage_of_the_hub_is_waited_for(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.refuses_with = status
    told = Told()
    task = asyncio.create_task(settled(partial(order().settle, node(tmp_path, hub.endpoint)), told))
    await until(lambda: len(told.errors) >= 5, timeout_s=LIMIT_S, what="five tries")
    assert not task.done()
    assert "the model hub cannot be asked for org/model" in told.errors[-1]
    assert any("waiting for the model's source" in detail for detail in told.details)
    hub.refuses_with = None
    made = await asyncio.wait_for(task, LIMIT_S)
    assert Path(made.folder).name == hub.commit


async def test_a_download_that_stops_goes_on(hub: Hub, tmp_path: Path) -> None:
    told = Told()
    environment = node(tmp_path, hub.endpoint)
    hub.refuses_files_with = 503
    task = asyncio.create_task(settled(partial(order().settle, environment), told))
    await until(lambda: len(told.errors) >= 2, timeout_s=LIMIT_S, what="two tries")
    assert "stopped at 0 of" in told.errors[-1]
    hub.refuses_files_with = None
    await asyncio.wait_for(task, LIMIT_S)


async def test_nobody_there_ends_at_the_limit(tmp_path: Path) -> None:
    told = Told()
    settle = partial(order().settle, node(tmp_path, f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(SourceAwayError, match="cannot be asked"):
        await settled(settle, told, limit_s=1.0)
    assert told.errors


@pytest.mark.parametrize(
    ("model", "changed", "words"),
    [
        ("{id: tiny, source: org/other}", "", "has no org/other"),
        (HUB_MODEL, "model.safetensors", "other content than the hub's listing promised"),
        ("{id: tiny, source: /nonexistent/model}", "", "is not a folder"),
    ],
)
async def test_what_lasts_fails_at_once(hub: Hub, tmp_path: Path, model: str, changed: str, words: str) -> None:
    hub.changed.add(changed)
    told = Told()
    with pytest.raises(ModelStoreError, match=words) as caught:
        await settled(partial(order(model).settle, node(tmp_path, hub.endpoint)), told)
    assert not isinstance(caught.value, SourceAwayError)
    assert told.errors == []


async def test_a_node_that_does_not_fit_fails_at_once(tmp_path: Path) -> None:
    def settle(progress: Progress) -> ReplicaPlan:
        raise SetupError("no device", "get one")

    with pytest.raises(SetupError):
        await settled(settle, Told())


async def test_people_see_how_far_it_is_and_nothing_comes_after() -> None:
    told = Told()
    seen = threading.Event()

    def settle(progress: Progress) -> ReplicaPlan:
        for done_bytes in range(1000):
            progress("downloading", done_bytes * 1_000_000, 2_000_000_000)
        assert seen.wait(LIMIT_S)
        progress("hashing", 1, 2)
        return plan()

    task = asyncio.create_task(settled(settle, told))
    await until(lambda: bool(told.details), timeout_s=LIMIT_S, what="a word of the download")
    seen.set()
    await asyncio.wait_for(task, LIMIT_S)
    # A thousand words of the pull became one for people: those of the last moment.
    assert told.details[0] == "model: downloading 999 of 2000 MB"
    said = len(told.details)
    assert said <= 2
    assert not [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]


def test_the_card_is_that_of_the_revision(tmp_path: Path) -> None:
    store_with_revision(tmp_path / "models")
    environment = node(tmp_path, "http://127.0.0.1:1")
    usual = order("{id: tiny}").settle(environment, lambda *_: None)
    pinned = order(f"{{id: tiny, revision: {REVISION}}}").settle(environment, lambda *_: None)
    assert (Path(usual.folder).name, usual.tool_parser) == ("generated-1", "hermes")
    assert (Path(pinned.folder).name, pinned.tool_parser) == (REVISION, None)
