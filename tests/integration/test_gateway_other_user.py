"""A gateway as a pod runs it: any user id, no entry in the list of users, no home, and one folder to write to."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import httpx
import pytest

from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_process import config_of, gateway_process

pytestmark = pytest.mark.integration

NOBODY_UID = 23_456
CAPABILITIES = "-all,+dac_read_search"
"""Reads the interpreter and the code wherever they are, as an image's are readable; writes as its user id may."""
AS_NOBODY = (
    "setpriv", "--reuid", str(NOBODY_UID), "--regid", "0", "--clear-groups", "--bounding-set", CAPABILITIES,
    "--inh-caps", CAPABILITIES, "--ambient-caps", CAPABILITIES,
)  # fmt: skip
BODY = {"model": "one", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(autouse=True)
def _can_be_another() -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming another user takes root and setpriv")
    with pytest.raises(KeyError):
        pwd.getpwuid(NOBODY_UID)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An empty volume, writable for the group 0 as Kubernetes' fsGroup makes it."""
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o770)
    tmp_path.chmod(0o770)  # the harness has its ready file there
    return folder


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("home", ["", "/", "/nonexistent"])
async def test_it_serves_and_journals_usage(tmp_path: Path, state: Path, workers: int, home: str) -> None:
    async with serve(FakeEngine()) as engine:
        config = config_of({"one": [engine.url]})
        config["gateway"]["workers"] = workers
        variables = {"HOME": home, "LONGREACH_STATE": str(state), "PYTHONDONTWRITEBYTECODE": "1"}
        async with gateway_process(tmp_path, config, "--watch", program=AS_NOBODY, **variables) as gateway:
            async with httpx.AsyncClient(timeout=20) as client:
                assert (await client.post(f"{gateway.url}/v1/chat/completions", json=BODY)).status_code == 200
                ready = await client.get(f"http://127.0.0.1:{gateway.admin_port}/ready")
                assert ready.status_code == 200
            usage = state / "local" / "usage"

            def has_usage() -> bool:
                return any(path.is_file() and path.stat().st_size for path in usage.iterdir())

            await until(has_usage, timeout_s=10, what="usage on disk")
            assert {path.stat().st_uid for path in usage.iterdir()} == {NOBODY_UID}
            assert gateway.complaints() == []


@pytest.mark.parametrize(
    ("variables", "more", "said"),
    [
        ({"LONGREACH_STATE": ""}, (), "set LONGREACH_STATE to a folder"),
        ({"LONGREACH_STATE": "/nonexistent/state"}, (), "set LONGREACH_STATE to one that is"),
        ({}, ("--ready-file", "/nonexistent/ready.json"), "the ready file /nonexistent/ready.json cannot be written"),
    ],
)
async def test_what_cannot_be_written_is_said(
    tmp_path: Path, state: Path, variables: dict[str, str], more: tuple[str, ...], said: str
) -> None:
    config = config_of({"one": ["http://127.0.0.1:9"]})
    env = {"HOME": "", "LONGREACH_STATE": str(state)} | variables
    with pytest.raises(AssertionError, match=said):
        async with gateway_process(tmp_path, config, *more, program=AS_NOBODY, **env):
            pass
