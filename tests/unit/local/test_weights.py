"""The model store of this user: one place, for every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.bootstrap.__main__ import _cache_home
from cluster.environment import read_environment
from cluster.models.opening import open_store
from cluster.models.store import default_root


@pytest.mark.parametrize("variable", ["LONGREACH_CACHE", "XDG_CACHE_HOME"])
def test_models_are_where_the_preflight_looks_for_room(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LONGREACH_CACHE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    environment = read_environment()
    root = open_store(environment).root
    assert root == default_root(environment.cache_home) == _cache_home() / "models"
    assert root == (tmp_path if variable == "LONGREACH_CACHE" else tmp_path / "longreach") / "models"
