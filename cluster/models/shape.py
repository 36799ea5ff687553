"""What a model's architecture makes each token cost: parameters by their use, and attention's size.

Biases and norms are left out: under a thousandth. What must not live here: reading config.json (folder.py), bytes (the
card has them), speeds (cluster/planner).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer's sizes."""

    layers: int
    attention_layers: int
    """Those with a KV cache that grows; the others of a hybrid keep one state a sequence."""
    hidden: int
    query_heads: int
    head_dim: int
    step_width: int
    """The widest activation of one token: gate and up of the MLP side by side."""
    vocabulary: int
    layer_parameters: int
    """Of all layers, every expert of a mixture included: what is read to decode a large batch."""
    token_parameters: int
    """Of those, what one token is multiplied with: all in a dense model, the chosen experts in a mixture."""
    embedding_parameters: int
    """Looked up, not multiplied; the head included where it is not tied to the embedding."""

    @property
    def parameters(self) -> int:
        """All."""
        return self.layer_parameters + self.embedding_parameters

    @property
    def is_mixture(self) -> bool:
        """Whether a token uses some experts only."""
        return self.token_parameters < self.layer_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The mixture in each layer."""

    count: int
    per_token: int
    intermediate: int
    """Of one expert's MLP."""
    shared_intermediate: int = 0
    """Of the expert that every token uses; 0: none."""


def transformer_shape(
    *,
    layers: int,
    hidden: int,
    query_heads: int,
    kv_heads: int,
    head_dim: int,
    intermediate: int,
    vocabulary: int,
    is_tied: bool,
    experts: Experts | None = None,
    attention_layers: int | None = None,
) -> ModelShape:
    """The shape of a model with grouped-query attention and gated MLPs, as LLaMA, Qwen and Mistral have them.

    A layer has hidden x head size x (query heads twice, KV heads twice) parameters of attention (Ainslie et al. 2023)
    and 3 x hidden x intermediate of its MLP (Shazeer 2020); a mixture has one MLP for each expert, and a router.
    """
    attention = hidden * head_dim * (2 * query_heads + 2 * kv_heads)
    if experts is None:
        every = used = 3 * hidden * intermediate
        width = 2 * intermediate
    else:
        beside = hidden * experts.count + 3 * hidden * experts.shared_intermediate
        every = 3 * hidden * experts.intermediate * experts.count + beside
        used = 3 * hidden * experts.intermediate * experts.per_token + beside
        width = 2 * experts.intermediate * experts.per_token + 2 * experts.shared_intermediate
    return ModelShape(
        layers=layers,
        attention_layers=layers if attention_layers is None else attention_layers,
        hidden=hidden,
        query_heads=query_heads,
        head_dim=head_dim,
        step_width=width,
        vocabulary=vocabulary,
        layer_parameters=layers * (attention + every),
        token_parameters=layers * (attention + used),
        embedding_parameters=vocabulary * hidden * (1 if is_tied else 2),
    )


def shape_from_config(text: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a config.json tells (its text part).

    None for latent attention, for layers of several kinds, and where a size is missing or no number: nothing but a
    plan's speeds needs it.
    """
    kinds = text.get("layer_types") or ()
    if text.get("kv_lora_rank") or any("attention" not in kind or "linear" in kind for kind in kinds):
        return None
    if text.get("first_k_dense_replace") or text.get("mlp_only_layers") or int(text.get("decoder_sparse_step", 1)) > 1:
        return None
    try:
        return _shape(text)
    except (KeyError, TypeError, ValueError):
        return None


def _shape(text: Mapping[str, Any]) -> ModelShape:
    heads, hidden = int(text["num_attention_heads"]), int(text["hidden_size"])
    return transformer_shape(
        layers=int(text["num_hidden_layers"]),
        hidden=hidden,
        query_heads=heads,
        kv_heads=int(text.get("num_key_value_heads") or heads),
        head_dim=int(text.get("head_dim") or hidden // heads),
        intermediate=int(text["intermediate_size"]),
        vocabulary=int(text["vocab_size"]),
        is_tied=bool(text.get("tie_word_embeddings", False)),
        experts=_experts(text),
    )


def _experts(text: Mapping[str, Any]) -> Experts | None:
    count = text.get("num_experts") or text.get("num_local_experts") or text.get("n_routed_experts")
    if not count:
        return None
    own = int(text.get("moe_intermediate_size") or text["intermediate_size"])
    shared = int(text.get("shared_expert_intermediate_size") or int(text.get("n_shared_experts") or 0) * own)
    return Experts(
        count=int(count),
        per_token=int(text["num_experts_per_tok"]),
        intermediate=own,
        shared_intermediate=shared,
    )
