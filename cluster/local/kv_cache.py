"""What `longreach cache` must know of a cluster: where its KV blocks are, and whose tag is whose.

What must not live here: Redis (cluster/state/blocks.py), what the tags are for (cluster/core/tier/keys.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cluster.config import Config, load_config
from cluster.config.keys import load_keys
from cluster.core.errors import ConfigError, SetupError
from cluster.core.salt import salt_of
from cluster.core.tenant import DEFAULT_TENANT, TenantName
from cluster.core.tier.keys import NO_TAG, is_tag, tag_of
from cluster.deployment import load_deployment
from cluster.engine.tier.connection import RedisServer, TierConnectionError
from cluster.environment import CREDENTIAL_VARIABLE, Environment
from cluster.local.rundir import RunDir
from cluster.state.blocks import CacheServer
from cluster.state.login import state_address


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCache:
    """The cache of one cluster."""

    server: CacheServer
    models: frozenset[str]
    """Ids in the configuration."""
    tenants: dict[str, str | None]
    """Tag by name; None where it cannot be told here."""
    cluster: str
    state_url: str | None = field(repr=False)
    """Where its replicas' leases are, with the login."""
    pools: frozenset[str]
    """Those with a tier."""
    secret: str | None = field(repr=False)
    """What its replicas ask for; None where it is not known here."""
    ignorance: str = ""
    """Why tags cannot be told, as a sentence; empty where they can."""

    @property
    def names(self) -> dict[str, str]:
        """Tenants by their tags."""
        return {tag: name for name, tag in self.tenants.items() if tag is not None}

    def tag(self, tenant: str) -> str:
        """The tag that somebody means: a tenant's name, or a tag itself.

        Raises:
            SetupError: there is no such tenant, or its tag cannot be told here.
        """
        if tenant in self.tenants:
            tag = self.tenants[tenant]
            if tag is None:
                raise SetupError(f"which blocks are tenant {tenant}'s cannot be told: {self.ignorance}", _REMEDY)
            return tag
        if is_tag(tenant) and "." not in tenant:
            return tenant
        known = ", ".join(sorted(self.tenants))
        raise SetupError(
            f"no tenant {tenant!r}: there are {known}",
            "name one of them, or a tag that `longreach cache stats` shows",
        )


_REMEDY = (
    "run this where the cluster runs, or set "
    f"{CREDENTIAL_VARIABLE} to its secret, or name the tag that `longreach cache stats` shows"
)


def find_kv_cache(run_dir: RunDir, config_path: Path | None, environment: Environment) -> KvCache:
    """The cache of the cluster at `run_dir`, whether that runs or not.

    Args:
        run_dir: of the cluster.
        config_path: its configuration; used where it does not run.
        environment: holds secrets.

    Raises:
        ConfigError: the configuration has mistakes.
        SetupError: it has no cache, or a secret is not where it should be.
    """
    path = run_dir.config if run_dir.config.exists() else config_path
    if path is None:
        raise SetupError("no cluster runs here whose cache could be meant", "name a configuration with --config")
    config = load_config(path)
    url, own_state_url = config.redis.cache_url, None
    if run_dir.deployment.exists():
        deployment = load_deployment(run_dir.deployment)
        url, own_state_url = url or deployment.cache_url, deployment.state_url
    if url is None:
        raise SetupError(f"cluster {config.cluster.name} has no cache of KV blocks now", _why_none(config))
    secret = _secret(run_dir, environment)
    tenants, ignorance = _tenants(config, secret)
    return KvCache(
        server=_server(config, url),
        models=frozenset(model.id for model in config.models),
        tenants=tenants,
        cluster=config.cluster.name,
        state_url=state_address(config.redis, environment.secret, own=own_state_url),
        pools=frozenset(pool.name for pool in config.pools if pool.has_tier),
        secret=secret,
        ignorance=ignorance,
    )


def _why_none(config: Config) -> str:
    if config.needs_cache:
        return "its server comes and goes with the cluster: longreach up"
    return "switch engine.redis_tier on for a pool, and set redis.cache_url where `longreach up` does not run it"


def _server(config: Config, url: str) -> CacheServer:
    redis = config.redis
    login = RedisServer(
        url=url, password_env=redis.cache_password_env, password_file=redis.cache_password_file, user=redis.cache_user
    )
    try:
        password = login.password()
    except TierConnectionError as error:
        raise SetupError(
            str(error), "redis.cache_password_env and redis.cache_password_file must hold it on this machine too"
        ) from error
    return CacheServer(url=url, user=redis.cache_user, password=password, ca_file=redis.cache_ca_file)


def _tenants(config: Config, secret: str | None) -> tuple[dict[str, str | None], str]:
    """Tags by tenant, and why they cannot be told."""
    if config.gateway.auth.keys_file is None:
        # Nobody has a key, so all are one tenant, and none has a salt.
        return {DEFAULT_TENANT: NO_TAG}, ""
    names = {tenant.name for tenant in config.tenants}
    ignorance = ""
    try:
        names |= {key.tenant for key in load_keys(Path(config.gateway.auth.keys_file)).keys}
    except ConfigError as error:
        ignorance = f"{config.gateway.auth.keys_file} cannot be read: {error}"
    if secret is None:
        ignorance = ignorance or "the cluster's secret, which salts are made of, is not known here"
        return dict.fromkeys(names), ignorance
    return {name: tag_of(salt_of(TenantName(name), secret)) for name in names}, ignorance


def _secret(run_dir: RunDir, environment: Environment) -> str | None:
    """What the cluster's gateways make salts from: of a cluster that runs here, else of one that was told."""
    try:
        return run_dir.credential.read_text(encoding="ascii") or None
    except OSError:
        return environment.replica_credential
