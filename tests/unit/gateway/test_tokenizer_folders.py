"""Where a gateway finds tokenizers: a deployment, a folder, the model store; and that it asks nobody for one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cluster.config import Config, parse_config
from cluster.deployment import Deployment
from cluster.environment import Environment, read_environment
from cluster.models.hub import HubSettings
from cluster.models.store import ModelStore, default_root
from cluster.models.tokenizer_store import TokenizerStore
from services.gateway.tokenizer_folders import tokenizer_folders

NOWHERE = HubSettings(endpoint="http://127.0.0.1:9")


def config(model: str = "{id: tiny}", *, is_static: bool = False) -> Config:
    endpoints = ", endpoints: [{url: 'http://127.0.0.1:9'}]" if is_static else ""
    model_id = "mine" if "id: mine" in model else "tiny"
    return parse_config(f"models: [{model}]\npools: [{{name: p, model: {model_id}, context_tokens: 64{endpoints}}}]\n")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return read_environment({"LONGREACH_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": NOWHERE.endpoint or ""})


def folders(made: Config, environment: Environment, deployment: Deployment | None = None) -> dict[str, Path]:
    return tokenizer_folders(made, deployment, environment)


def test_the_model_store_is_looked_at(environment: Environment) -> None:
    assert folders(config(), environment) == {}
    root = default_root(environment.cache_home)
    small = TokenizerStore(root, settings=NOWHERE).pull("tiny")
    assert folders(config(), environment) == {"tiny": small}
    assert folders(config("{id: mine, source: tiny}"), environment) == {"mine": small}
    assert folders(config("{id: tiny, revision: another}"), environment) == {}
    whole = ModelStore(root, settings=NOWHERE).pull("tiny")
    assert folders(config(), environment) == {"tiny": whole}


def test_a_store_that_cannot_be_written_serves(environment: Environment) -> None:
    root = default_root(environment.cache_home)
    small = TokenizerStore(root, settings=NOWHERE).pull("tiny")
    for path in (small, small.parent, root / ".tokenizers", root):
        path.chmod(0o555)
    try:
        assert folders(config(), environment) == {"tiny": small}
    finally:
        for path in (root, root / ".tokenizers", small.parent, small):
            path.chmod(0o755)


def test_a_foreign_engines_model_shares_a_name_only(environment: Environment) -> None:
    small = TokenizerStore(default_root(environment.cache_home), settings=NOWHERE).pull("tiny")
    assert folders(config(is_static=True), environment) == {}
    assert folders(config("{id: mine, source: tiny}", is_static=True), environment) == {"mine": small}


def test_names_that_mean_nothing_here_are_passed_over(environment: Environment) -> None:
    for model in (
        "{id: tiny, source: gpt-4o}",
        "{id: tiny, source: /not/mounted/here}",
        "{id: tiny, source: org/name}",
        f"{{id: tiny, source: /{'x' * 300}}}",  # to look at such a name is an error of its own
    ):
        assert folders(config(model), environment) == {}


def test_a_folder_and_a_deployment_come_first(environment: Environment, tmp_path: Path) -> None:
    small = TokenizerStore(default_root(environment.cache_home), settings=NOWHERE).pull("tiny")
    own = tmp_path / "own"
    shutil.copytree(small, own)
    assert folders(config(f"{{id: tiny, source: {own}}}"), environment) == {"tiny": own}
    made = Deployment(config_path="", state_url=None, model_folders={"tiny": "/there", "gone": "/x"})
    assert folders(config(), environment, made) == {"tiny": Path("/there")}
