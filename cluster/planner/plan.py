"""A plan: what a model takes, what each kind of GPU makes of it, and the pools that serve a load.

What must not live here: the search (layout.py), files to write (emit.py), tables (cluster/cli).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.core.autoscaling import ServiceLevel
from cluster.core.capacity import CardSupply, ModelNeed, Sizing, size_pools
from cluster.core.capacity.load import OfferedLoad
from cluster.core.errors import SetupError
from cluster.gpus import GpuSpec, find_gpu
from cluster.models.card import Dtype, ModelCard, Quantization
from cluster.models.need import model_need
from cluster.planner.layout import Layouts, Node, Search, find_layouts, most_ranks
from cluster.planner.roofline import ERROR_RATIO, work_of
from cluster.planner.shapes import MeasuredCost, Shape, shapes_of

GIB = 2**30
HOUR_S = 3_600
MILLION = 1e6
BURSTY_CV2 = 5.0
"""From here on the share that waits is far above Erlang's, which is of Poisson arrivals."""
TINY_SHARE = 1e-9
"""Below it, a difference is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked."""

    model: str
    """As it was named."""
    card: ModelCard
    gpus: tuple[GpuSpec, ...]
    nodes: tuple[Node, ...] | None
    """What there is; None: as much as is needed."""
    context_tokens: int | None = None
    """The longest that is to be served; None: as much as the model and the cards allow."""
    load: OfferedLoad | None = None
    level: ServiceLevel = field(default_factory=ServiceLevel)
    prices: Mapping[str, float] | None = None
    """Of one card an hour, by kind, in whatever currency."""
    memory_ratio: float = 0.9
    measured: MeasuredCost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the recommended layout costs."""

    per_hour: float
    per_million_tokens: float
    """Prompt and output together, at the workload's rate."""
    per_million_output_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was found."""

    question: Question
    need: ModelNeed
    shapes: tuple[Shape, ...]
    wanted_tokens: int
    context_tokens: int
    """That is served; 0 where nothing fits."""
    layouts: Layouts | None
    """For a workload, best first."""
    sizing: Sizing | None
    """Without a workload: pools for the cards there are."""
    notes: tuple[str, ...]

    @property
    def error_ratio(self) -> float:
        """How far speeds may be off that come from the roofline."""
        return ERROR_RATIO

    @property
    def cost(self) -> Cost | None:
        """None where nothing has a price, or nothing is served."""
        load = self.question.load
        if not self.question.prices or load is None or self.layouts is None or not self.layouts.found:
            return None
        per_hour = self.layouts.found[0].weight
        served = load.between(0, self.context_tokens) or load
        return Cost(
            per_hour=per_hour,
            per_million_tokens=_per_million(per_hour, served, served.prompt_tokens + served.output_tokens),
            per_million_output_tokens=_per_million(per_hour, served, served.output_tokens),
        )


def make_plan(question: Question) -> Plan:
    """Answer it.

    Raises:
        SetupError: some kinds have a price and others none.
    """
    need = model_need(question.card)
    weights = _weights(question)
    shapes = tuple(
        shape
        for gpu in question.gpus
        for shape in shapes_of(
            question.card,
            need,
            gpu,
            most_ranks=most_ranks(gpu.name, question.nodes),
            memory_ratio=question.memory_ratio,
            measured=question.measured,
        )
    )
    wanted = min(question.context_tokens or need.context_tokens, need.context_tokens)
    reached = min(wanted, max(shape.context_tokens for shape in shapes))
    layouts = sizing = None
    if question.load is not None and reached:
        search = Search(
            shapes=shapes,
            load=question.load,
            level=question.level,
            context_tokens=reached,
            weights=weights,
            nodes=question.nodes,
        )
        layouts = find_layouts(search)
    elif question.nodes is not None:
        sizing = _sizing(question, need)
    return Plan(
        question=question,
        need=need,
        shapes=shapes,
        wanted_tokens=wanted,
        context_tokens=reached,
        layouts=layouts,
        sizing=sizing,
        notes=tuple(_notes(question, shapes, wanted, reached)),
    )


def parse_gpus(texts: Sequence[str]) -> tuple[tuple[GpuSpec, ...], tuple[Node, ...] | None]:
    """The kinds that `KIND`, `KIND:CARDS` and `KIND:CARDSxNODES` name, and the nodes; None where no number is given.

    Raises:
        SetupError: a kind or a number is wrong, or some have a number and others none.
    """
    gpus: dict[str, GpuSpec] = {}
    nodes: list[Node] = []
    counted = 0
    for text in texts:
        name, _, count = text.partition(":")
        gpu = find_gpu(name)
        gpus[gpu.name] = gpu
        if count:
            counted += 1
            cards, _, machines = count.lower().partition("x")
            if not cards.isdecimal() or not int(cards) or (machines and not machines.isdecimal()):
                raise SetupError(f"{text!r}: {count!r} is no number of cards", "write L4:8, or L4:8x3 for three nodes")
            nodes += [Node(gpu=gpu.name, cards=int(cards))] * int(machines or 1)
    if not gpus:
        raise SetupError("no GPU kind is named", "name one or more: --gpu L4, or --gpu L4:8 --gpu H100:4")
    if counted and counted < len(texts):
        raise SetupError(
            "some --gpu have a number of cards and others none", "give it with all (what there is), or with none"
        )
    return tuple(gpus.values()), tuple(nodes) if counted else None


def _weights(question: Question) -> dict[str, float]:
    """Of one card of each kind: its price; where none has one, its memory, which is what pools bind."""
    prices = question.prices or {}
    names = [gpu.name for gpu in question.gpus]
    lacking = [name for name in names if name not in prices]
    if prices and lacking:
        raise SetupError(
            f"{', '.join(lacking)} has no price", f"--price-per-hour {lacking[0]}=NUMBER, as for the others"
        )
    return {gpu.name: prices.get(gpu.name, gpu.memory_bytes / GIB) for gpu in question.gpus}


def _sizing(question: Question, need: ModelNeed) -> Sizing:
    supplies = [
        CardSupply(
            kind=gpu.name,
            memory_bytes=gpu.memory_bytes,
            cards_by_node=tuple(node.cards for node in question.nodes or () if node.gpu == gpu.name),
            spans=gpu.spans,
        )
        for gpu in question.gpus
    ]
    return size_pools(need, supplies, memory_ratio=question.memory_ratio, wanted_tokens=question.context_tokens)


def _notes(question: Question, shapes: Sequence[Shape], wanted: int, reached: int) -> list[str]:
    notes = _reach_notes(question, wanted, reached)
    for gpu in question.gpus:
        if not gpu.has_bf16 and question.card.dtype is Dtype.BFLOAT16:
            notes.append(f"{gpu.name} has no bf16: the model runs in float16 there (engine.dtype)")
        if question.card.quantization is Quantization.FP8 and gpu.flops_8 is None:
            notes.append(f"{gpu.name} has no fp8 arithmetic: fp8 weights save memory there, and no time")
    if work_of(question.card).is_guessed:
        notes.append(
            "config.json does not tell all sizes: every weight counts as used by each token, which is too slow"
        )
    elif question.card.shape is not None and question.card.shape.is_mixture:
        notes.append("a mixture of experts: steps of fewer than some 32 sequences are faster than told here")
    if not any(shape.is_measured for shape in shapes):
        notes.append(
            f"speeds come from data sheets and assumed efficiencies, within {ERROR_RATIO:.0%} at best: measure with "
            "`longreach plan calibrate`, and check the layout with the simulator"
        )
    return notes


def _reach_notes(question: Question, wanted: int, reached: int) -> list[str]:
    card, notes = question.card, []
    if question.context_tokens is not None and question.context_tokens > card.context_tokens:
        notes.append(f"{card.id} itself ends at {card.context_tokens:,} tokens")
    if not reached:
        notes.append(f"{card.id} fits on none of these: name GPUs with more memory, or a quantized model")
        return notes
    if reached < wanted:
        notes.append(
            f"the longest context is {reached:,} tokens, not {wanted:,}: more needs cards with more memory, more of "
            "them in one node, or a quantized model"
        )
    if question.load is not None:
        served = question.load.between(0, reached)
        share = 1 - (served.requests_per_s / question.load.requests_per_s if served else 0.0)
        if share > TINY_SHARE:
            notes.append(f"{share:.2%} of the requests are longer than {reached:,} tokens and refused")
        if question.load.arrival_cv2 > BURSTY_CV2:
            notes.append(
                f"arrivals vary {question.load.arrival_cv2:,.0f} times as much as Poisson's: more requests wait than "
                "is told here; simulate the trace"
            )
    return notes


def _per_million(per_hour: float, load: OfferedLoad, tokens: float) -> float:
    return per_hour / (load.requests_per_s * tokens * HOUR_S) * MILLION
