"""Which API server, as whom: kubeconfigs, log-in programs, a pod's own account."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cluster.core.errors import SetupError
from cluster.kubernetes import connection
from cluster.kubernetes.connection import KUBECONFIG_VARIABLE, POD_VARIABLE, Target, connected
from cluster.kubernetes.faults import CredentialsError
from cluster.kubernetes.resources import NODES
from tests.kube_api import TOKEN, Endpoint


def test_the_namespace_is_the_option_then_the_context_then_default(endpoint: Endpoint, tmp_path: Path) -> None:
    kubeconfig = endpoint.kubeconfig(tmp_path / "a", namespace="team")
    with connected(Target(kubeconfig=kubeconfig), {}) as api:
        assert api.namespace == "team"
    with connected(Target(kubeconfig=kubeconfig, namespace="mine"), {}) as api:
        assert api.namespace == "mine"
    with connected(Target(kubeconfig=endpoint.kubeconfig(tmp_path / "b", namespace="")), {}) as api:
        assert api.namespace == "default"


def test_the_variable_and_the_home_name_kubeconfigs(endpoint: Endpoint, tmp_path: Path) -> None:
    first = endpoint.kubeconfig(tmp_path / "a", namespace="first")
    (tmp_path / ".kube").mkdir()
    endpoint.kubeconfig(tmp_path / ".kube" / "config", namespace="home")
    with connected(Target(), {"HOME": str(tmp_path)}) as api:
        assert api.namespace == "home"
    with connected(Target(), {"HOME": str(tmp_path), KUBECONFIG_VARIABLE: f"{first}{os.pathsep}/nowhere"}) as api:
        assert api.namespace == "first"


def test_a_context_that_is_not_there_is_answered_with_those_that_are(endpoint: Endpoint, tmp_path: Path) -> None:
    kubeconfig = endpoint.kubeconfig(tmp_path / "a")
    with pytest.raises(SetupError, match="it has: test"), connected(Target(kubeconfig=kubeconfig, context="x"), {}):
        pass


@pytest.mark.parametrize("text", ["", "[]", "apiVersion: v1\nkind: Config\n", "{", "contexts: 3\n"])
def test_a_file_that_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a"
    path.write_text(text)
    with pytest.raises(SetupError, match="kubeconfig"), connected(Target(kubeconfig=path), {}):
        pass


def test_nothing_to_connect_to_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="--kubeconfig"), connected(Target(), {"HOME": str(tmp_path)}):
        pass
    missing = Target(kubeconfig=tmp_path / "none")
    with pytest.raises(SetupError, match="there is no kubeconfig at"), connected(missing, {}):
        pass


def test_a_log_in_program_is_run(endpoint: Endpoint, tmp_path: Path) -> None:
    kubeconfig = endpoint.kubeconfig(tmp_path / "a", token=None, exec=login_program(tmp_path, token=TOKEN))
    with connected(Target(kubeconfig=kubeconfig), {}) as api:
        assert len(api.read(NODES)) == 3


def test_a_log_in_program_that_fails_means_nobody(
    endpoint: Endpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kubeconfig = endpoint.kubeconfig(tmp_path / "a", token=None, exec=login_program(tmp_path, token=None))
    with connected(Target(kubeconfig=kubeconfig), {}) as api, pytest.raises(CredentialsError, match="log in again"):
        api.read(NODES)
    assert "session expired" in caplog.text, "its own words reach the user"


def test_a_log_in_program_that_takes_long_is_named_and_waited_for(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program ends when the notice has come, or after a minute."""
    noticed = tmp_path / "noticed"

    class Noticed(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert "log-in program is still running" in record.getMessage()
            noticed.touch()

    handler = Noticed()
    monkeypatch.setattr(connection, "LOGIN_NOTICE_S", 0.1)
    kubeconfig = endpoint.kubeconfig(
        tmp_path / "a", token=None, exec=login_program(tmp_path, token=TOKEN, wait_for=noticed)
    )
    connection.log.addHandler(handler)
    try:
        with connected(Target(kubeconfig=kubeconfig), {}) as api:
            assert len(api.read(NODES)) == 3
    finally:
        connection.log.removeHandler(handler)


def test_in_a_pod_its_own_account_is_used(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = in_pod(endpoint, tmp_path)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "namespace").write_text("longreach")
    (tmp_path / "ca.crt").write_bytes(endpoint.ca_file.read_bytes())
    monkeypatch.setattr(connection, "SERVICE_ACCOUNT", tmp_path)
    with connected(Target(), variables) as api:
        assert api.namespace == "longreach"
        assert len(api.read(NODES)) == 3


def test_a_pod_without_a_token_says_what_it_lacks(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SERVICE_ACCOUNT", tmp_path / "nothing")
    with (
        pytest.raises(CredentialsError, match="automountServiceAccountToken"),
        connected(Target(), in_pod(endpoint, tmp_path)),
    ):
        pass


def in_pod(endpoint: Endpoint, home: Path) -> dict[str, str]:
    parts = urlsplit(endpoint.url)
    return {"HOME": str(home), POD_VARIABLE: str(parts.hostname), "KUBERNETES_SERVICE_PORT": str(parts.port)}


def login_program(folder: Path, *, token: str | None, wait_for: Path | None = None) -> dict[str, object]:
    """A program as a cloud's kubeconfig names it; it may wait for a file, a minute at most, and fails without it."""
    version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}}
    script = folder / "login.py"
    wait = (
        "import pathlib, time\n"
        f"file, end = pathlib.Path({str(wait_for)!r}), time.monotonic() + 60\n"
        "while not file.exists(): time.sleep(0.01) if time.monotonic() < end else exit('nobody came')\n"
    )
    end = f"print({json.dumps(answer)!r})" if token else "import sys; sys.exit('session expired')"
    script.write_text((wait if wait_for is not None else "") + end, encoding="utf-8")
    return {"apiVersion": version, "command": sys.executable, "args": [str(script)], "interactiveMode": "Never"}
