"""The bench's own cluster: looked at, asked, given another routing policy.

What must not live here: what is asked of it, how it is started and ended (loadtest/own_cluster.py).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console

from cluster.config import load_config
from cluster.config.keys import KeySection, KeysFile, digest_of, save_keys
from cluster.core import wire
from cluster.core.lease import Lease
from cluster.core.prefix import PrefixFacts
from cluster.core.routing import Policy
from cluster.core.routing.profile import WEIGHTS
from cluster.core.routing.scorers import ScorerName
from cluster.core.tier.keys import pattern, tag_of
from cluster.deployment import load_deployment
from cluster.environment import Environment
from cluster.local.reload import reload
from cluster.local.rundir import RunDir
from cluster.local.state_view import read_state
from loadtest.own_cluster import own_cluster
from loadtest.prefix.client import Answer, BenchError, ask
from loadtest.prefix.configuration import CLUSTER, REPLICAS, ClusterShape, configuration
from loadtest.prefix.scrape import Counters, counters_of

LEASES_TIMEOUT_S = 60.0
RELOAD_TIMEOUT_S = 20.0
STORED_TIMEOUT_S = 60.0
SCRAPE_TIMEOUT_S = 30.0
POLL_S = 0.1
WARM_UP = "warm-up"
"""The tenant of requests that are not measured."""
CONDITIONAL = frozenset({ScorerName.PREFIX, ScorerName.SESSION, ScorerName.ADAPTER})
"""Scorers that not every request has; the others tell policies apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One replica, and how to ask it without the gateway."""

    replica_id: str
    url: str
    headers: Mapping[str, str]
    block_tokens: int


class BenchCluster:
    """A running cluster of two replicas behind a gateway."""

    def __init__(
        self,
        *,
        url: str,
        config_file: Path,
        run_dir: RunDir,
        environment: Environment,
        http: httpx.Client,
        keys: Mapping[str, str],
        cache_tokens: int,
    ) -> None:
        self.url = url
        self._config_file = config_file
        self._run_dir = run_dir
        self._environment = environment
        self._http = http
        self._keys = keys
        config = load_config(run_dir.config)
        self.model = config.models[0].id
        self.cache_tokens = cache_tokens
        """Tokens that the KV cache of each replica has room for."""
        deployment = load_deployment(run_dir.deployment)
        self._state_url = deployment.state_url
        self._cache_url = deployment.cache_url
        self.model_folder = Path(deployment.model_folders[self.model])
        self.replicas = self._replicas()

    def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        tenant: str,
        answer_tokens: int,
        session: str | None = None,
        explains: bool = False,
    ) -> Answer:
        """Ask the gateway, as a tenant.

        Raises:
            BenchError: it was not answered.
        """
        headers = {"authorization": f"Bearer {self._keys[tenant]}"}
        if session is not None:
            headers[wire.HEADER_SESSION] = session
        if explains:
            headers[wire.HEADER_EXPLAIN] = "1"
        return ask(self._http, self.url, messages, model=self.model, answer_tokens=answer_tokens, headers=headers)

    def ask_replica(
        self, replica: Replica, messages: Sequence[Mapping[str, str]], *, salt: str, answer_tokens: int
    ) -> Answer:
        """Ask one replica as a gateway would, for a tenant with this cache salt.

        Raises:
            BenchError: it was not answered.
        """
        headers = {**replica.headers, wire.HEADER_CACHE_SALT: salt}
        return ask(self._http, replica.url, messages, model=self.model, answer_tokens=answer_tokens, headers=headers)

    def counters(self, replica: Replica) -> Counters:
        """What a replica has counted of its tier.

        Raises:
            BenchError: it did not say.
        """
        try:
            response = self._http.get(f"{replica.url}/metrics", headers=dict(replica.headers), timeout=SCRAPE_TIMEOUT_S)
            response.raise_for_status()
            return counters_of(response.text)
        except (httpx.HTTPError, ValueError) as error:
            raise BenchError(f"{replica.url}/metrics: {error or type(error).__name__}") from error

    def stored_blocks(self, salt: str, *, at_least: int) -> int:
        """Wait until so many blocks with this salt are in Redis; how many are, also where they did not all come.

        Raises:
            BenchError: Redis does not answer.
        """
        assert self._cache_url is not None
        deadline_s = time.monotonic() + STORED_TIMEOUT_S
        redis = Redis.from_url(self._cache_url, socket_timeout=SCRAPE_TIMEOUT_S, socket_connect_timeout=5)
        try:
            while True:
                found = sum(1 for _ in redis.scan_iter(pattern(tenant_tag=tag_of(salt)), count=1000))
                if found >= at_least or time.monotonic() > deadline_s:
                    return found
                time.sleep(POLL_S)
        except RedisError as error:
            raise BenchError(f"the Redis for KV blocks does not answer: {error}") from error
        finally:
            redis.close()

    def use_policy(self, policy: str) -> None:
        """Route by this policy from now on.

        Raises:
            BenchError: the gateway does not take it.
        """
        data = yaml.safe_load(self._config_file.read_text(encoding="utf-8"))
        data["gateway"]["routing"]["policy"] = policy
        self._config_file.write_text(yaml.safe_dump(data), encoding="utf-8")
        reload(self._run_dir, self._config_file, self._environment)
        deadline_s = time.monotonic() + RELOAD_TIMEOUT_S
        wanted = WEIGHTS[Policy(policy)].keys() - CONDITIONAL
        messages = [{"role": "user", "content": "Hello"}]
        while True:
            told = self.ask(messages, tenant=WARM_UP, answer_tokens=1, explains=True).explanation or {}
            scorers = {name for choice in told.get("choices", ())[:1] for name in choice["scores"]}
            if scorers - CONDITIONAL == wanted:
                return
            if time.monotonic() > deadline_s:
                raise BenchError(f"the gateway still routes by {sorted(scorers)}, not by policy {policy}")
            time.sleep(POLL_S)

    def _replicas(self) -> tuple[Replica, ...]:
        secret = self._run_dir.credential.read_text(encoding="ascii")
        deadline_s = time.monotonic() + LEASES_TIMEOUT_S
        while True:
            state = read_state(self._state_url, CLUSTER)
            if len(state.leases) >= REPLICAS:
                return tuple(_replica(lease, secret) for lease in state.leases)
            if time.monotonic() > deadline_s:
                raise BenchError(f"only {len(state.leases)} of {REPLICAS} replicas have a lease {state.error}")
            time.sleep(POLL_S)


@contextlib.contextmanager
def running_cluster(
    shape: ClusterShape, *, tenants: Sequence[str], environment: Environment, console: Console, http: httpx.Client
) -> Iterator[BenchCluster]:
    """The cluster, up; it is down when the context is left.

    Raises:
        SetupError: this machine cannot run it, or another bench is at work.
        ModelStoreError: the model cannot be had.
        InterruptedBySignal: after everything has been taken down again.
    """
    keys = {tenant: f"lr-{secrets.token_urlsafe(32)}" for tenant in (*tenants, WARM_UP)}

    def write(folder: Path, port_min: int) -> Mapping[str, Any]:
        keys_file = folder / "keys.yaml"
        save_keys(keys_file, _keys_file(keys))
        return configuration(shape, keys_file=keys_file, port_min=port_min)

    own = own_cluster(CLUSTER, write, purpose="`longreach bench prefix`", environment=environment, console=console)
    with own as started:
        cluster = BenchCluster(
            url=started.url,
            config_file=started.config_file,
            run_dir=started.run_dir,
            environment=environment,
            http=http,
            keys=keys,
            cache_tokens=shape.room_tokens,
        )
        try:
            yield cluster
        except BenchError as error:
            raise BenchError(f"{error}\n  its logs are in {started.run_dir.logs}") from error


def _replica(lease: Lease, secret: str) -> Replica:
    facts = PrefixFacts.from_dict(lease.prefix)
    if facts is None:
        raise BenchError(f"replica {lease.replica_id} does not publish its residency: see `longreach logs` for why")
    headers = {wire.HEADER_CREDENTIAL: secret}
    return Replica(replica_id=str(lease.replica_id), url=lease.url, headers=headers, block_tokens=facts.block_tokens)


def _keys_file(keys: Mapping[str, str]) -> KeysFile:
    today = dt.datetime.now(dt.UTC).date()
    return KeysFile(
        keys=[
            KeySection(id=f"key-{tenant}", tenant=tenant, sha256=digest_of(key).hex(), created=today)
            for tenant, key in keys.items()
        ]
    )
