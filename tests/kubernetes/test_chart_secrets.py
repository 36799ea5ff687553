"""Secrets are in Secrets only: no ConfigMap, argument, annotation or RayService has a password, key or token."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.kubernetes.cases import ALL, EVERYTHING, EXTERNAL_REDIS, Case, merged
from tests.kubernetes.pods import pods
from tests.kubernetes.render import Manifest, Renderer

SHORTEST = 8
"""Shorter values, such as names of tenants, may be anywhere."""
LOGIN = re.compile(r"\w+://[^/\s:@]*:[^/\s@]+@")
SECRET_KEY = re.compile(r"(password|passwd|secret|token|api_?key|private_?key|credential)$", re.IGNORECASE)
SECRET_VARIABLE = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY|CREDENTIAL)$")

each_case = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)


def values_of(secret: Manifest) -> Iterator[str]:
    """What a Secret holds, line by line where it is a file."""
    data = secret.body.get("data") or {}
    texts = [base64.b64decode(value).decode() for value in data.values()]
    for text in [*texts, *(secret.body.get("stringData") or {}).values()]:
        yield text
        yield from (word for word in re.split(r"[\s\"']+", text) if len(word) >= 20)


@each_case
def test_no_secret_is_anywhere_else(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    hidden = {value for one in rendered.by_kind("Secret") for value in values_of(one) if len(value) >= SHORTEST}
    shown = yaml.safe_dump([one.body for one in rendered if one.kind != "Secret"], width=10**6)
    encoded = {base64.b64encode(value.encode()).decode() for value in hidden}
    assert [value for value in hidden | encoded if value in shown] == []


@each_case
def test_no_file_has_a_key_for_a_secret(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    texts = [(str(one), text) for one in rendered.by_kind("ConfigMap") for text in one.body["data"].values()]
    texts += [(str(one), one.spec["serveConfigV2"]) for one in rendered.by_kind("RayService")]
    for where, text in texts:
        assert LOGIN.search(text) is None, where
        if "dashboard" not in where and "valkey.conf" not in text:
            for path, value in _leaves(_as_yaml(text)):
                assert SECRET_KEY.search(path) is None or value in {None, "", False}, f"{where}: {path}"


def _as_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None  # a script


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, f"{path}.{key}")
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one, path)
    else:
        yield path, value


@each_case
def test_no_pod_has_a_secret_in_the_open(render: Renderer, case: Case) -> None:
    for pod in pods(case.render(render)):
        for container in pod.containers:
            for variable in container.get("env") or []:
                open_secret = SECRET_VARIABLE.search(variable["name"]) and "value" in variable
                assert not open_secret, f"{pod} {variable['name']} is not from a Secret"
            said = " ".join([*(container.get("command") or []), *(container.get("args") or [])])
            assert LOGIN.search(said) is None, str(pod)


def test_with_existing_secrets_the_chart_makes_none(render: Renderer) -> None:
    values = merged(EXTERNAL_REDIS, {"redis": {"existingSecret": "unused"}})
    assert render(values).by_kind("Secret") == []


def test_every_install_makes_its_own(render: Renderer) -> None:
    made = [render(EVERYTHING, release=release).by_kind("Secret") for release in ("a", "b")]
    assert made[0]
    values = [{value for one in secrets for value in values_of(one) if len(value) >= 20} for secrets in made]
    assert not values[0] & values[1]


def test_a_gateway_that_asks_for_certificates_gets_the_ca_and_no_test_pods(render: Renderer) -> None:
    """The pods of `helm test` have no certificate to show."""
    tls = {"enabled": True, "existingSecret": "mine", "clientCa": True}
    rendered = render(EVERYTHING, {"tls": {**tls, "certManager": {"enabled": False}}})
    (text,) = (one.body["data"]["config.yaml"] for one in rendered.by_kind("ConfigMap") if one.name.endswith("-config"))
    assert yaml.safe_load(text)["gateway"]["tls"]["client_ca_file"] == "/etc/longreach/tls/ca.crt"
    assert not rendered.has("Pod", component="test")
