"""The configuration file: one typed schema, the same in local mode and in the chart.

What lives here: the pydantic models of the YAML file and the loader that turns a mistake into a line, a field
and a remedy. What must not: reading the environment (cluster/environment.py does) and secrets (they come from
the environment or from files, never from this file).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cluster.core.errors import ConfigError, ConfigMistake

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""Cluster and pool names become Kubernetes names, Serve application names and metric labels, so they are DNS labels."""

ModelId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
MAX_CONTEXT_TOKENS = 16_777_216
MAX_REPLICAS = 1_000


class Section(BaseModel):
    """A part of the file: unknown keys are mistakes, values are never coerced across types, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ClusterSection(Section):
    """Which cluster this is, and how local mode reaches it."""

    name: Name = "local"
    ray_port: int = Field(default=6379, ge=0, le=65535, description="GCS port in local mode; 0 picks a free one")
    replica_host: str = Field(
        default="127.0.0.1",
        description="Address replicas publish in their lease; `node` means the Ray node's own, bound on all interfaces",
    )
    replica_port_min: int = Field(default=30000, ge=1024, le=60000, description="First direct-ingress port")


class SamplingSection(Section):
    """Sampling values used where a request gives none; they go over the catalog's own for the model."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=2)


class OutputSection(Section):
    """How many output tokens a request may ask for, and what one that says nothing gets."""

    default_tokens: int = Field(default=1024, ge=1, description="Output budget of a request without max_tokens")
    max_tokens: int | None = Field(default=None, ge=1, description="Cap: a request that asks for more is refused")

    @model_validator(mode="after")
    def _default_within_cap(self) -> Self:
        if self.max_tokens is not None and self.default_tokens > self.max_tokens:
            raise ValueError(f"default_tokens {self.default_tokens} is over max_tokens {self.max_tokens}")
        return self


class LoraSection(Section):
    """One LoRA adapter, requested by its name as the `model`."""

    name: ModelId
    path: str = Field(min_length=1, description="Folder of the adapter, on every node")


class ModelSection(Section):
    """A model that clients can ask for."""

    id: ModelId
    source: str | None = Field(
        default=None, description="Catalog id, hub id (org/name), or a folder; default: the id itself"
    )
    revision: str | None = None
    aliases: list[ModelId] = Field(default_factory=list)
    sampling: SamplingSection = SamplingSection()
    output: OutputSection = OutputSection()
    lora: list[LoraSection] = Field(default_factory=list)
    tool_parser: str | None = Field(default=None, description="vLLM tool-call parser; default: the catalog's")

    @property
    def names(self) -> tuple[str, ...]:
        """Every name a client may put in `model`: the id, the aliases, the adapters."""
        return (self.id, *self.aliases, *(adapter.name for adapter in self.lora))


class ReplicasSection(Section):
    """How many replicas a pool runs."""

    min: int = Field(default=1, ge=1, le=MAX_REPLICAS)
    max: int = Field(default=1, ge=1, le=MAX_REPLICAS)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is over max {self.max}")
        return self


class EngineSection(Section):
    """Engine settings of a pool; what is left out is chosen from what the machine has."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = None
    kv_cache_gib: float | None = Field(
        default=None,
        gt=0,
        description="KV cache of a replica; default on CPU: 1.25 contexts, on GPU: what gpu_memory_ratio leaves",
    )
    gpu_memory_ratio: float = Field(default=0.9, gt=0, le=1, description="GPU only: share of the card vLLM may take")
    max_running: int = Field(default=32, ge=1, le=4096, description="Sequences decoded together (max_num_seqs)")
    max_queued: int = Field(default=64, ge=0, le=100_000, description="Waiting in the replica before it refuses")
    batch_tokens: int | None = Field(default=None, ge=64, description="Tokens per step (max_num_batched_tokens)")
    eager: bool | None = Field(default=None, description="Skip compilation; default: true on CPU, false on GPU")
    stall_s: float | None = Field(
        default=None, ge=5, le=3600, description="Longest one engine step may take before the replica counts as dead"
    )
    drain_s: float = Field(default=600, ge=0, le=86_400, description="Longest a draining replica lets streams finish")
    env: dict[str, str] = Field(default_factory=dict, description="Extra environment of the engine's processes")
    extra_args: dict[str, Any] = Field(default_factory=dict, description="Further vLLM engine arguments, by their name")


class EndpointSection(Section):
    """A static member of a pool: any OpenAI-compatible engine."""

    url: str = Field(pattern=r"^https?://[^\s/]+(/.*)?$", description="Base URL, without /v1")
    model: str | None = Field(default=None, description="The model's name there; default: the same as here")
    api_key_env: str | None = Field(default=None, description="Environment variable that holds its API key")


class PoolSection(Section):
    """Replicas of one model with one context limit."""

    name: Name
    model: ModelId
    context_tokens: int = Field(ge=16, le=MAX_CONTEXT_TOKENS, description="Prompt plus output, per request")
    tensor_parallel: int = Field(default=1, ge=1, le=64)
    replicas: ReplicasSection = ReplicasSection()
    engine: EngineSection = EngineSection()
    endpoints: list[EndpointSection] = Field(default_factory=list, description="Static members instead of replicas")

    @property
    def is_static(self) -> bool:
        """Whether the pool's members are listed here instead of run by Ray Serve."""
        return bool(self.endpoints)

    @model_validator(mode="after")
    def _static_or_served(self) -> Self:
        if self.endpoints:
            for key in ("replicas", "engine", "tensor_parallel"):
                if key in self.model_fields_set:
                    raise ValueError(f"{key} has no meaning in a pool with static endpoints: leave one of them out")
        return self


class RedisSection(Section):
    """Where replicas and gateways meet. Absent: local mode embeds a Valkey server; `gateway` alone does without."""

    state_url: str | None = Field(default=None, pattern=r"^(rediss?|unix)://")


class LimitsSection(Section):
    """Bounds on what a client may send and how long it may take."""

    body_bytes: int = Field(default=32 * 2**20, ge=1024, le=2**31, description="Largest request body; over it: 413")
    concurrent_requests: int = Field(default=4096, ge=1, description="In flight in one gateway; over it: 429")
    client_stall_s: float = Field(default=60, gt=0, description="Longest pause while a client sends its body")
    connect_s: float = Field(default=2, gt=0, description="Connecting to a replica")
    first_byte_s: float = Field(default=1800, gt=0, description="Longest wait for a replica's first byte")
    idle_s: float = Field(default=120, gt=0, description="Longest silence inside an answer before it counts as broken")
    attempts: int = Field(default=3, ge=1, le=10, description="Replicas tried for one request before the first byte")
    drain_s: float = Field(default=600, ge=0, description="Longest a stopping gateway lets answers finish")


class GatewaySection(Section):
    """Where the gateway listens and what it bounds."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535, description="0 picks a free one")
    limits: LimitsSection = LimitsSection()


class TelemetrySection(Section):
    """What is logged. Metrics are always at the gateway's /metrics."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"


class Config(Section):
    """The whole file."""

    cluster: ClusterSection = ClusterSection()
    models: list[ModelSection] = Field(min_length=1)
    pools: list[PoolSection] = Field(min_length=1)
    redis: RedisSection = RedisSection()
    gateway: GatewaySection = GatewaySection()
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


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or has mistakes; it lists every mistake with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), (ConfigMistake(line=0, field="", problem=f"cannot be read: {error}"),)) from error
    return parse_config(text, origin=str(path))


def parse_config(text: str, *, origin: str = "<config>") -> Config:
    """Check the text of a configuration file; `origin` names it in errors.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_duplicate_keys(root, origin)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 0
        problem = str(getattr(error, "problem", None) or error)
        raise ConfigError(origin, (ConfigMistake(line=line, field="", problem=f"not YAML: {problem}"),)) from error
    if not isinstance(data, dict):
        mistake = ConfigMistake(line=1, field="", problem="must be a mapping with the keys models and pools")
        raise ConfigError(origin, (mistake,))
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        mistakes = tuple(
            ConfigMistake(
                line=_line_of(root, tuple(item["loc"])), field=_dotted(tuple(item["loc"])), problem=_problem(item)
            )
            for item in error.errors()
        )
        raise ConfigError(origin, mistakes) from error


def _refuse_duplicate_keys(node: yaml.Node | None, origin: str) -> None:
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in current.value:
                if key.value in seen:
                    mistake = ConfigMistake(line=key.start_mark.line + 1, field=key.value, problem="is given twice")
                    raise ConfigError(origin, (mistake,))
                seen.add(key.value)
                pending.append(value)
        elif isinstance(current, yaml.SequenceNode):
            pending.extend(current.value)


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The 1-based line of the deepest part of `location` that the file has."""
    line = 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
            if found is None:
                return line
            line = found[0].start_mark.line + 1
            node = found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _problem(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "is not a known key"
    if item["type"] == "missing":
        return "is required"
    given = item.get("input")
    shown = f" (given: {given!r})" if isinstance(given, (str, int, float, bool)) else ""
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{message}{shown}"
