"""A plan's plots: the longest context, and the longest prompt's wait, by cards.

What must not live here: reckoning (cluster/planner), drawing (cluster/plots).
"""

from __future__ import annotations

from cluster.planner.plan import Plan
from cluster.planner.shapes import Shape
from cluster.plots.scale import Axis
from cluster.plots.svg import Series, plot

PROMPTS = tuple(2**power for power in range(10, 19))
"""1,024 to 262,144 tokens, where a plot of prompts has its points."""
CARDS = Axis(label="cards of one replica", is_log=True)


def context_plot(plan: Plan) -> str:
    """The longest context that a replica can promise, over its cards; shapes that are too small are left out."""
    model, most = plan.question.card, plan.question.card.context_tokens
    found: dict[str, list[tuple[float, float]]] = {}
    for shape in plan.shapes:
        if shape.context_tokens:
            found.setdefault(shape.gpu.name, []).append((float(shape.ranks), float(shape.context_tokens)))
    series = [Series(name=name, points=points) for name, points in found.items()]
    cards = [at for points in found.values() for at, _ in points]
    if cards:
        ends = [(min(cards), float(most)), (max(cards), float(most))]
        series.append(Series(name=f"the model's own {most:,}", points=ends, is_dashed=True))
    return plot(f"{model.id}: longest context", CARDS, Axis(label="tokens", is_log=True), series)


def prefill_plot(plan: Plan) -> str:
    """Seconds until the first token of a prompt that is alone, over its length, of the smallest shape of each kind."""
    smallest: dict[str, Shape] = {}
    for shape in plan.shapes:
        if shape.context_tokens:
            smallest.setdefault(shape.gpu.name, shape)
    series = [
        Series(
            name=f"{shape.ranks} x {name}" + (" (measured)" if shape.is_measured else ""),
            points=[
                (float(tokens), shape.prefill_s(tokens))
                for tokens in sorted({*PROMPTS, shape.context_tokens})
                if tokens <= shape.context_tokens
            ],
        )
        for name, shape in smallest.items()
    ]
    across = Axis(label="tokens of the prompt, up to the longest context", is_log=True)
    title = f"{plan.question.card.id}: first token of one prompt, alone"
    return plot(title, across, Axis(label="seconds", is_log=True), series)
