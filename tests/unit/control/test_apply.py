"""Which pools go to Serve, in what order, and how; Serve itself is only listened to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.config import load_config
from cluster.control import apply
from cluster.core.errors import ModelStoreError, SetupError
from cluster.deployment import Deployment
from cluster.engine.hardware import Hardware
from tests.unit.engine.plans import machine
from tests.unit.engine.revised import REVISION, store_with_revision

CONFIG = """
cluster: {replica_host: HOST}
models: [{id: tiny}, {id: demo}, {id: far}]
pools:
  - {name: long, model: demo, context_tokens: 32768}
  - {name: elsewhere, model: far, context_tokens: 64, endpoints: [{url: "http://h:1"}]}
  - {name: short, model: tiny, context_tokens: 4096}
  - {name: middle, model: tiny, context_tokens: 8192}
"""


PINNED = f"{{id: tiny, revision: {REVISION}}}"


@dataclass(slots=True)
class Serve:
    """What was asked of Ray Serve."""

    started: list[dict[str, Any]] = field(default_factory=list)
    runs: list[tuple[list[Any], bool]] = field(default_factory=list)

    def start(self, **options: Any) -> None:
        self.started.append(options)

    def run_many(self, targets: list[Any], *, wait_for_applications_running: bool) -> None:
        self.runs.append((list(targets), wait_for_applications_running))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Serve:
    made = Serve()
    monkeypatch.setattr("ray.serve.start", made.start)
    monkeypatch.setattr("ray.serve.run_many", made.run_many)
    return made


def deployment(folder: Path, *, host: str = "127.0.0.1") -> Deployment:
    path = folder / "longreach.yaml"
    path.write_text(CONFIG.replace("HOST", host))
    return Deployment(
        config_path=str(path), state_url="redis://h/0", model_folders={"tiny": "/models/tiny", "demo": "/models/demo"}
    )


def on(monkeypatch: pytest.MonkeyPatch, hardware: Hardware) -> None:
    monkeypatch.setattr(apply, "detect_hardware", lambda: hardware)


def test_plans_are_smallest_first_without_static_pools(tmp_path: Path) -> None:
    made = deployment(tmp_path)
    found = apply.plans(load_config(Path(made.config_path)), made, machine())
    assert [(plan.pool, plan.model, plan.folder) for plan in found] == [
        ("short", "tiny", "/models/tiny"),
        ("middle", "tiny", "/models/tiny"),
        ("long", "demo", "/models/demo"),
    ]
    assert {plan.state_url for plan in found} == {"redis://h/0"}


def test_the_clusters_own_server_for_blocks_reaches_the_plans(tmp_path: Path) -> None:
    made = deployment(tmp_path)
    tier = "context_tokens: 4096, engine: {redis_tier: {enabled: true}}}"
    Path(made.config_path).write_text(CONFIG.replace("HOST", "127.0.0.1").replace("context_tokens: 4096}", tier))
    with pytest.raises(SetupError, match=r"redis\.cache_url"):
        apply.plans(load_config(Path(made.config_path)), made, machine())
    made = dataclasses.replace(made, cache_url="redis://127.0.0.1:7777/0")
    short, middle, _ = apply.plans(load_config(Path(made.config_path)), made, machine())
    assert short.redis_tier is not None
    assert (short.redis_tier.url, middle.redis_tier) == ("redis://127.0.0.1:7777/0", None)


def test_the_card_is_that_of_the_revision(tmp_path: Path) -> None:
    store = store_with_revision(tmp_path / "models")
    folders = {"tiny": str(store.path("tiny", revision=REVISION)), "demo": "/models/demo"}
    made = dataclasses.replace(deployment(tmp_path), model_folders=folders)
    # A relative source is the folder that `longreach up` found, whatever folder this process runs in.
    for section, expected in [("{id: tiny}", "hermes"), (PINNED, None), ("{id: tiny, source: ./somewhere}", None)]:
        Path(made.config_path).write_text(CONFIG.replace("HOST", "127.0.0.1").replace("{id: tiny}", section))
        found, *_ = apply.plans(load_config(Path(made.config_path)), made, machine())
        assert found.tool_parser == expected


def test_on_few_cores_each_pool_waits_for_the_one_before(
    tmp_path: Path, asked: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, machine(cores=(0, 1)))
    apply.apply(deployment(tmp_path))
    assert [([target.name for target in targets], waits) for targets, waits in asked.runs] == [
        (["pool-short"], True),
        (["pool-middle"], True),
        (["pool-long"], False),
    ]
    assert [targets[0].route_prefix for targets, _ in asked.runs] == ["/short", "/middle", "/long"]


def test_on_many_cores_all_start_at_once(tmp_path: Path, asked: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, machine(cores=tuple(range(apply.CORES_TO_START_AT_ONCE))))
    apply.apply(deployment(tmp_path))
    ((targets, waits),) = asked.runs
    assert [target.name for target in targets] == ["pool-short", "pool-middle", "pool-long"]
    assert waits is False


@pytest.mark.parametrize(("host", "bound"), [("127.0.0.1", "127.0.0.1"), ("node", "0.0.0.0")])
def test_serve_listens_where_replicas_are_reached(
    tmp_path: Path, asked: Serve, monkeypatch: pytest.MonkeyPatch, host: str, bound: str
) -> None:
    on(monkeypatch, machine())
    apply.apply(deployment(tmp_path, host=host))
    (options,) = asked.started
    assert options["http_options"]["host"] == bound
    # Direct ingress needs the proxy's setting; Disabled takes the replicas' own ports away.
    assert options["proxy_location"] == "HeadOnly"


@pytest.mark.parametrize(
    ("fault", "status"), [(None, 0), (SetupError("no such thing", "get one"), 1), (ModelStoreError("gone"), 1)]
)
def test_the_exit_status_and_the_last_word(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Exception | None,
    status: int,
) -> None:
    file = tmp_path / "deployment.json"
    deployment(tmp_path).save(file)
    calls: list[str] = []

    def failing(_: Deployment) -> None:
        calls.append("apply")
        if fault is not None:
            raise fault

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr("sys.argv", ["apply", str(file)])
    monkeypatch.setattr("ray.init", lambda **options: calls.append(options["address"]))
    monkeypatch.setattr("ray.shutdown", lambda: calls.append("shutdown"))
    monkeypatch.setattr(apply, "apply", failing)
    assert apply.main() == status
    assert calls == ["127.0.0.1:1", "apply", "shutdown"]
    assert (str(fault) in capsys.readouterr().err) is (fault is not None)
