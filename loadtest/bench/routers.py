"""What a router under test is, and Longreach as one: in its full production form.

Two pools, policy `balanced`, API keys, an access log in a file, metrics and outcome recording. What must not live
here: other projects' routers (peers.py), measuring.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

import services
from cluster.config.keys import KeySection, KeysFile, digest_of, save_keys
from cluster.core.errors import LongreachError
from cluster.environment import CREDENTIAL_VARIABLE
from loadtest.bench.bodies import MODEL
from loadtest.bench.engines import CLUSTER, MAX_RUNNING, POOLS
from loadtest.bench.processes import Started, start

READY_TIMEOUT_S = 60.0
FIRST_ANSWER_S = 60.0
ANSWER_TIMEOUT_S = 5.0
ANSWER_BYTES_SHOWN = 300
POLL_S = 0.05
CREDENTIAL_BYTES = 32


class RouterFailedError(LongreachError):
    """A router did not start, or ended under load; the message has the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a router is to run, and what it finds there."""

    folder: Path
    """Its own, empty."""
    core: int
    engine_urls: tuple[str, ...]
    state_url: str
    api_key: str
    variables: Mapping[str, str]
    """The environment for its processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A router that listens."""

    started: Started
    port: int
    grpc_port: int | None = None
    """Of routers that speak gRPC."""


class Router(Protocol):
    """One router that can be started."""

    @property
    def name(self) -> str:
        """Its name in tables."""
        ...

    def start(self, place: Place) -> Serving:
        """Start it; it may still be some seconds from its first answer.

        Raises:
            RouterFailedError: it ended, or never listened.
        """
        ...


@contextmanager
def serving(router: Router, place: Place, body: Path) -> Iterator[Serving]:
    """Run a router until it has answered one request, and then as long as needed.

    Raises:
        RouterFailedError: it ended, or did not answer.
    """
    running = router.start(place)
    try:
        _await_first_answer(router, running, place, body)
        yield running
    finally:
        running.started.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Longreach:
    """Our gateway."""

    name: str
    is_static: bool
    """Endpoints listed in the configuration, instead of leases in the state store."""
    tokenizer: Path
    """Folder of the model's tokenizer."""
    traces: Mapping[str, Any] = field(default_factory=dict)
    """Its telemetry.traces."""

    def start(self, place: Place) -> Serving:
        """Start a gateway and wait for its ready file."""
        config, ready = place.folder / "gateway.yaml", place.folder / "ready.json"
        config.write_text(yaml.safe_dump(self.configuration(place)), encoding="utf-8")
        started = start(
            [sys.executable, "-m", "services.gateway", "--config", config, "--ready-file", ready],
            core=place.core,
            log=place.folder / "access.log",
            env={
                **place.variables,
                CREDENTIAL_VARIABLE: secrets.token_urlsafe(CREDENTIAL_BYTES),
                # What it keeps of usage must not meet what the gateways of this user keep.
                "LONGREACH_STATE": str(place.folder / "state"),
            },
            cwd=Path(services.__path__[0]).parent,
        )
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not ready.exists():
            if started.has_ended or time.monotonic() > deadline_s:
                started.end()
                raise RouterFailedError(f"the gateway did not start:\n{started.log_tail()}")
            time.sleep(POLL_S)
        told = json.loads(ready.read_text(encoding="utf-8"))
        return Serving(started=started, port=told["port"], grpc_port=told["grpc_port"])

    def configuration(self, place: Place) -> dict[str, Any]:
        """The gateway's configuration file, as data; its key file is written beside it."""
        keys_file = place.folder / "keys.yaml"
        save_keys(keys_file, one_key(place.api_key))
        members = {"endpoints": [{"url": url} for url in place.engine_urls]}
        served = {"engine": {"max_running": MAX_RUNNING}}
        return {
            "cluster": {"name": CLUSTER},
            "models": [{"id": MODEL, "source": str(self.tokenizer)}],
            "pools": [
                {"name": name, "model": MODEL, "context_tokens": tokens, **(members if self.is_static else served)}
                for name, tokens in POOLS.items()
            ],
            "redis": {"state_url": place.state_url},
            "gateway": {
                "port": 0,
                "admin": {"port": 0},
                "auth": {"keys_file": str(keys_file)},
                "routing": {"policy": "balanced"},
            },
            "telemetry": {"log_level": "info", "log_format": "json", "traces": dict(self.traces)},
        }


def one_key(api_key: str) -> KeysFile:
    """A key file with one key, as `longreach keys create` writes it."""
    key = KeySection(
        id="bench", tenant="bench", sha256=digest_of(api_key).hex(), created=dt.datetime.now(dt.UTC).date()
    )
    return KeysFile(keys=[key])


def _await_first_answer(router: Router, running: Serving, place: Place, body: Path) -> None:
    deadline_s, why = time.monotonic() + FIRST_ANSWER_S, "no answer"
    headers = {"content-type": "application/json", "authorization": f"Bearer {place.api_key}"}
    while time.monotonic() < deadline_s:
        if running.started.has_ended:
            break
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=ANSWER_TIMEOUT_S)) as connection:
                connection.request("POST", "/v1/chat/completions", body=body.read_bytes(), headers=headers)
                answer = connection.getresponse()
                text = answer.read()[:ANSWER_BYTES_SHOWN]
            if answer.status == http.client.OK:
                return
            why = f"{answer.status} {text.decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as error:
            why = repr(error)
        time.sleep(POLL_S)
    raise RouterFailedError(f"{router.name} does not serve: {why}\n{running.started.log_tail()}")
