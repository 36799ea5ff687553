"""The whole configuration file as one typed schema, the same in local mode and in the chart.

What must not live here: reading files (file.py), the environment (cluster/environment.py), secrets.
"""

from __future__ import annotations

from typing import Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator, model_validator

from cluster.config.base import Section
from cluster.config.gateway import GatewaySection, TenantSection
from cluster.config.pools import ClusterSection, ModelSection, PoolSection, neighbours
from cluster.config.telemetry import TelemetrySection

STORES = ("state", "cache")
"""Their keys begin so."""
LOGIN_OPTIONS = frozenset({"username", "password"})
"""Of an address's query, as redis-py reads it."""


class RedisSection(Section):
    """Where replicas and gateways meet, and where KV blocks go. Absent: local mode embeds Valkey servers for both."""

    state_url: str | None = Field(
        default=None,
        pattern=r"^(rediss?|unix)://",
        description="Where leases, quotas and residency are; without user and password. Default: local mode embeds a "
        "server",
    )
    state_user: str | None = Field(default=None, min_length=1, description="ACL user")
    state_password_env: str | None = Field(default=None, description="Environment variable that holds the password")
    state_password_file: str | None = Field(default=None, description="File that holds the password")
    state_ca_file: str | None = Field(default=None, description="CA of a rediss:// server; default: the system's")
    cache_url: str | None = Field(
        default=None,
        pattern=r"^(rediss?|unix)://[^@]*$",
        description="Where KV blocks go of pools with a redis_tier; without user and password. Default: local mode "
        "embeds a server",
    )
    cache_gib: float = Field(default=1.0, ge=0.0625, description="Memory of the embedded server for KV blocks")
    cache_user: str | None = Field(default=None, min_length=1, description="ACL user")
    cache_password_env: str | None = Field(default=None, description="Environment variable that holds the password")
    cache_password_file: str | None = Field(default=None, description="File that holds the password")
    cache_ca_file: str | None = Field(default=None, description="CA of a rediss:// server; default: the system's")

    @field_validator("state_url")
    @classmethod
    def _no_login_in_the_address(cls, url: str | None) -> str | None:
        if url is not None and ("@" in urlsplit(url).netloc or LOGIN_OPTIONS & parse_qs(urlsplit(url).query).keys()):
            raise ValueError(
                "must not hold a user or a password: this file is no secret. Set state_user, and state_password_env or "
                "state_password_file"
            )
        return url

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        for store in STORES:
            env, file = f"{store}_password_env", f"{store}_password_file"
            if getattr(self, env) is not None and getattr(self, file) is not None:
                raise ValueError(f"{env} and {file} both say where the password is: leave one out")
        return self

    @model_validator(mode="after")
    def _login_has_a_server(self) -> Self:
        for store in STORES:
            login = (f"{store}_{part}" for part in ("user", "password_env", "password_file", "ca_file"))
            given = [name for name in login if getattr(self, name) is not None]
            url = f"{store}_url"
            if getattr(self, url) is None and given:
                raise ValueError(f"{given[0]} belongs to the server at {url}: set {url}, or leave {given[0]} out")
        if self.cache_url is not None and "cache_gib" in self.model_fields_set:
            raise ValueError(
                "cache_gib is the embedded server's: leave it out, and set maxmemory at cache_url's server"
            )
        return self


class Config(Section):
    """The whole file."""

    cluster: ClusterSection = ClusterSection()
    models: list[ModelSection] = Field(min_length=1)
    pools: list[PoolSection] = Field(min_length=1)
    redis: RedisSection = RedisSection()
    gateway: GatewaySection = GatewaySection()
    tenants: list[TenantSection] = Field(default_factory=list)
    telemetry: TelemetrySection = TelemetrySection()

    @field_validator("models")
    @classmethod
    def _names_unique(cls, models: list[ModelSection]) -> list[ModelSection]:
        owner: dict[str, str] = {}
        for model in models:
            for name in model.names:
                if name in owner:
                    raise ValueError(f"the name {name!r} is used by {owner[name]!r} and by {model.id!r}")
                owner[name] = model.id
        return models

    @field_validator("tenants")
    @classmethod
    def _tenants_unique(cls, tenants: list[TenantSection]) -> list[TenantSection]:
        names = [tenant.name for tenant in tenants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"tenants listed twice: {', '.join(twice)}")
        return tenants

    @model_validator(mode="after")
    def _pools_fit_models(self) -> Self:
        ids = {model.id for model in self.models}
        seen: set[str] = set()
        for index, pool in enumerate(self.pools):
            if pool.name in seen:
                raise ValueError(f"pools[{index}].name: {pool.name!r} is used twice")
            seen.add(pool.name)
            if pool.model not in ids:
                known = ", ".join(sorted(ids))
                raise ValueError(f"pools[{index}].model: {pool.model!r} is not among the models ({known})")
        without = ids - {pool.model for pool in self.pools}
        if without:
            raise ValueError(f"models without a pool: {', '.join(sorted(without))}")
        return self

    @model_validator(mode="after")
    def _boundaries_can_move(self) -> Self:
        if self.gateway.routing.boundary == "fixed":
            return self
        if not self.boundaries:
            raise ValueError(
                "gateway.routing.boundary: adaptive moves the boundary between two pools of one model that run "
                "replicas and follow each other in context_tokens, and there are none: add a pool, or set it to fixed"
            )
        for index, pool in enumerate(self.pools):
            twin = next((other for other in self.pools[:index] if _are_twins(pool, other)), None)
            if twin is not None and any(pool.model == smaller.model for smaller, _ in self.boundaries):
                raise ValueError(
                    f"pools[{index}].context_tokens: {pool.context_tokens} is also that of {twin.name!r}, and with "
                    "gateway.routing.boundary: adaptive each pool of a model has a length of its own: change one, or "
                    "set the boundary to fixed"
                )
        return self

    @property
    def boundaries(self) -> tuple[tuple[PoolSection, PoolSection], ...]:
        """The pools, the smaller one first, between which the boundary follows the traffic."""
        if self.gateway.routing.boundary == "fixed":
            return ()
        by_model = ([pool for pool in self.pools if pool.model == model.id] for model in self.models)
        return tuple(pair for pools in by_model for pair in neighbours(pools))

    @property
    def needs_cache(self) -> bool:
        """Whether pools have a Redis tier and nothing says where that is: local mode embeds a server then."""
        return self.redis.cache_url is None and any(pool.has_tier for pool in self.pools)

    def with_cache(self, url: str) -> Config:
        """The same, with this server for KV blocks."""
        return self.model_copy(update={"redis": self.redis.model_copy(update={"cache_url": url})})

    def model(self, model_id: str) -> ModelSection:
        """The model with this id.

        Raises:
            KeyError: no model has this id.
        """
        for model in self.models:
            if model.id == model_id:
                return model
        raise KeyError(model_id)

    def pool(self, name: str) -> PoolSection:
        """The pool with this name.

        Raises:
            KeyError: no pool has this name.
        """
        for pool in self.pools:
            if pool.name == name:
                return pool
        raise KeyError(name)


def _are_twins(pool: PoolSection, other: PoolSection) -> bool:
    return pool.model == other.model and pool.context_tokens == other.context_tokens
