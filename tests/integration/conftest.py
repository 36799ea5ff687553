"""One real cluster for every integration test: Valkey, Ray, three vLLM pools and the gateway, on loopback."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import openai
import pytest
import redis

from cluster.deployment import load_deployment
from cluster.environment import read_environment
from tests.cluster_harness import CONFIG, Cluster, longreach

HERE = Path(__file__).parent
UP_TIMEOUT_S = 600.0


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # While working on tests, LONGREACH_TEST_STATE=DIR keeps one cluster between runs: `up` joins what is running.
    kept = os.environ.get("LONGREACH_TEST_STATE")
    env = {**os.environ, "LONGREACH_STATE": kept or str(tmp_path_factory.mktemp("state"))}
    up = longreach("up", "--config", str(CONFIG), "--no-question", "--json", env=env, timeout_s=UP_TIMEOUT_S)
    run_dir = read_environment(env).run_dir("test")
    if up.returncode != 0:
        pytest.fail(f"`longreach up` failed:\n{up.stdout}\n{up.stderr}")
    result = json.loads(up.stdout)
    deployment = load_deployment(run_dir / "deployment.json")
    assert deployment.state_url is not None
    running = Cluster(url=result["url"], run_dir=run_dir, state_url=deployment.state_url, env=env)
    yield running
    if kept:
        return
    down = longreach("down", "--config", str(CONFIG), env=env)
    assert down.returncode == 0, down.stderr
    assert running.processes() == [], "`longreach down` left processes behind"


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=300) as client:
        yield client


@pytest.fixture
def client(cluster: Cluster) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="unused", max_retries=0, timeout=300) as made:
        yield made


@pytest.fixture
def state(cluster: Cluster) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(cluster.state_url, decode_responses=True) as made:
        yield made


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is here is an integration test. Faults come last: they replace replicas, which would cost every test
    after them a minute."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)
    items.sort(key=lambda item: "test_cluster_z" in item.nodeid)
