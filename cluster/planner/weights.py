"""What a model's weights take, by format.

What must not live here: what fits beside them (cluster/core/capacity), speeds (roofline.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.models.card import ModelCard, Quantization

BYTES_EACH = {
    Quantization.FP8: 1.0,
    # Four bits, and for each group of 128 a scale of 16 bits and a zero of 4.
    Quantization.AWQ: 0.5 + 2.5 / 128,
    Quantization.GPTQ: 0.5 + 2.5 / 128,
}
"""Of one quantized weight, scales included (AWQ and GPTQ in groups of 128, as most publishers make them)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFormat:
    """The model's weights in one format."""

    name: str
    weights_bytes: int


def bytes_each(card: ModelCard) -> float:
    """Bytes of one weight of a layer."""
    return BYTES_EACH.get(card.quantization, float(card.dtype.size_bytes))


def weight_formats(card: ModelCard) -> tuple[WeightsFormat, ...]:
    """What the weights take in 16 bits, fp8 and 4 bits; embedding and head stay in 16 bits, as publishers leave them.

    Empty where the card has no shape.
    """
    if card.shape is None:
        return ()
    kept_bytes = card.shape.embedding_parameters * 2
    each = {
        "16 bits": 2.0,
        "fp8": BYTES_EACH[Quantization.FP8],
        "4 bits (AWQ, GPTQ)": BYTES_EACH[Quantization.AWQ],
    }
    return tuple(
        WeightsFormat(name=name, weights_bytes=round(card.shape.layer_parameters * size) + kept_bytes)
        for name, size in each.items()
    )


def estimated_weights_bytes(card: ModelCard) -> int | None:
    """What the weights of a card take that has none on disk; None where its shape is not known."""
    if card.shape is None:
        return None
    head_bytes = card.dtype.size_bytes * card.shape.embedding_parameters
    return round(card.shape.layer_parameters * bytes_each(card)) + head_bytes
