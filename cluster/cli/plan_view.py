"""A plan, and the kinds of GPU, as tables.

What must not live here: reckoning (cluster/planner).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.gpus import GpuSpec
from cluster.models.card import Quantization
from cluster.models.need import GRAPHS_AND_CONTEXT_BYTES, activation_bytes
from cluster.planner.calibration import Calibration
from cluster.planner.emit import emitted_pools
from cluster.planner.layout import Layout, PlannedPool
from cluster.planner.plan import Plan
from cluster.planner.weights import weight_formats

GIB = 2**30
MS = 1_000
ALTERNATIVES_MAX = 8
"""Layouts shown beside the recommended one; JSON has all."""
REFUSED_MAX = 6
NOISY_RATIO = 0.15
"""Median error of a fit above which its plan is worth no more than a data sheet's."""
BADLY_EXPLAINED = "the times are explained badly: was anything else to do, there or here? Measure again, --repeats 5"


def gpus_view(gpus: Sequence[GpuSpec]) -> RenderableType:
    """The catalog."""
    table = Table(
        "GPU", "memory", "bandwidth", "16 bits", "fp8", "link, one way", title="dense TFLOPS", caption_justify="left"
    )
    for column in table.columns[1:5]:
        column.justify = "right"
    for gpu in gpus:
        table.add_row(
            gpu.name,
            f"{gpu.memory_bytes / GIB:.1f} GiB",
            f"{gpu.bandwidth_bytes_per_s / 1e9:,.0f} GB/s",
            f"{gpu.flops_16 / 1e12:,.4g}" + ("" if gpu.has_bf16 else " (no bf16)"),
            f"{gpu.flops_8 / 1e12:,.4g}" if gpu.flops_8 else "-",
            f"{gpu.link} {gpu.link_bytes_per_s / 1e9:,.0f} GB/s" if gpu.spans else "-",
        )
    lines = [f"{gpu.name}: {gpu.sources['bandwidth']}" for gpu in gpus]
    return Group(table, Text("Sources (all of them: --json)", style="bold"), *(Text(line) for line in lines))


def plan_view(plan: Plan) -> RenderableType:
    """A plan, from what the model takes to what it costs."""
    parts: list[RenderableType] = [_model(plan), _shapes(plan)]
    if plan.layouts is not None:
        if plan.layouts.found:
            best = plan.layouts.found[0]
            parts += [_load(plan), _pools(best), *_missing(best), _alternatives(plan)]
        else:
            parts.append(Text("no layout meets the service level", style="red"))
        parts += [Text(f"does not serve: {why}") for why in plan.layouts.refused[:REFUSED_MAX]]
        more = len(plan.layouts.refused) - REFUSED_MAX
        parts += [Text(f"and {more} more (--json)")] if more > 0 else []
    elif plan.sizing is not None and plan.sizing.pools:
        parts.append(_sized(plan))
    else:
        parts.append(Text("For pools, say what is to be served (--workload), or what cards there are (--gpu L4:8)."))
    cost = plan.cost
    if cost is not None:
        parts.append(
            Text(
                f"cost: {cost.per_hour:,.2f} an hour; {cost.per_million_tokens:,.3f} for a million tokens, prompt and "
                f"output; {cost.per_million_output_tokens:,.3f} for a million of output"
            )
        )
    parts += [Text(f"note: {note}", style="yellow") for note in plan.notes]
    return Group(*parts)


def calibration_view(calibration: Calibration, errors: Sequence[float]) -> RenderableType:
    """What was measured, and how well the fitted cost explains it."""
    table = Table(
        "measured", "seconds", "explained", title=f"{calibration.model} on {calibration.ranks} x {calibration.gpu}"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for one, error in zip(calibration.observations, errors, strict=True):
        table.add_row(one.name, f"{one.seconds:.4f}", f"{error:+.0%}")
    cost = calibration.cost
    return Group(
        table,
        Text(
            f"step {cost.base_s * MS:.2f} ms, weights {cost.weights_s * MS:.2f} ms, token {cost.token_s * MS:.4f} ms, "
            f"attention {cost.attention_s * 1e9:.2f} ns a pair, context {cost.context_token_s * 1e9:.1f} ns a token, "
            f"sequence {cost.sequence_s * MS:.3f} ms, request {cost.request_s * MS:.1f} ms and "
            f"{calibration.overhead_s * MS:.1f} ms beside the engine"
        ),
        Text(f"error: median {calibration.median_error_ratio:.0%}, worst {calibration.worst_error_ratio:.0%}"),
        *([Text(BADLY_EXPLAINED, style="yellow")] if calibration.median_error_ratio > NOISY_RATIO else []),
    )


def _model(plan: Plan) -> RenderableType:
    card = plan.question.card
    kv_gib = card.context_tokens * card.kv_bytes_per_token / GIB
    stored = card.quantization if card.quantization is not Quantization.NONE else card.dtype
    step = (
        f"a step: {plan.need.step_bytes / GIB:.2f} GiB reserved on each card (activations reckoned at "
        f"{activation_bytes(card) / GIB:.2f}, CUDA context and graphs {GRAPHS_AND_CONTEXT_BYTES / GIB:g})"
    )
    lines = [
        f"{card.id}: {card.weights_bytes / GIB:.2f} GiB of weights ({stored})",
        f"KV cache: {card.kv_bytes_per_token:,} bytes a token; {kv_gib:.1f} GiB for {card.context_tokens:,} tokens",
        step,
    ]
    formats = weight_formats(card)
    if formats:
        lines.insert(1, "weights by format: " + ", ".join(f"{f.name} {f.weights_bytes / GIB:.2f} GiB" for f in formats))
    return Text("\n".join(lines))


def _shapes(plan: Plan) -> RenderableType:
    table = Table("GPU", "cards", "KV cache", "tokens", "context", "prefill", "decode", "longest prefill")
    for column in table.columns[1:]:
        column.justify = "right"
    for shape in plan.shapes:
        table.add_row(
            shape.gpu.name + (" (measured)" if shape.is_measured else ""),
            str(shape.ranks),
            f"{shape.kv_room_bytes * shape.ranks / GIB:.1f} GiB",
            f"{shape.kv_tokens:,}",
            f"{shape.context_tokens:,}" if shape.context_tokens else "too small",
            f"{shape.prefill_tokens_per_s:,.0f} tok/s",
            f"{shape.decode_tokens_per_s:,.1f} tok/s",
            f"{shape.prefill_s(shape.context_tokens):,.1f} s" if shape.context_tokens else "-",
        )
    return table


def _load(plan: Plan) -> RenderableType:
    load, level = plan.question.load, plan.question.level
    assert load is not None
    return Text(
        f"workload: {load.requests_per_s:,.3g} requests a second, {load.prompt_tokens:,.0f} tokens of prompt and "
        f"{load.output_tokens:,.0f} of output in the mean"
        + (f", {load.cached_ratio:.0%} of each prompt cached" if load.cached_ratio else "")
        + f"; arrivals vary {load.arrival_cv2:.3g} times as much as Poisson's\n"
        f"service level: of each length 95% have their first token within {level.ttft_s:g} s + "
        f"{level.ttft_s_per_1k_tokens:g} s for each 1,000 tokens; {level.itl_s * MS:g} ms between tokens in the mean"
    )


def _pools(layout: Layout) -> RenderableType:
    heads = ("up to", "replicas", "of", "requests/s", "TTFT met", "between tokens", "in use", "running", "of at most")
    table = Table("pool", *heads, "KV", "decided by", title="recommended")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for pool in layout.pools:
        table.add_row(*_pool_cells(pool))
    return table


def _pool_cells(pool: PlannedPool) -> list[str]:
    head = [pool.name, f"{pool.context_tokens:,}", str(pool.replicas), f"{pool.shape.ranks} x {pool.shape.gpu.name}"]
    if pool.found is None or pool.load is None:
        return [*head, "0", "-", "-", "-", "-", str(pool.max_running), "-", "no such requests: kept for its promise"]
    outcome = pool.found.outcome
    return [
        *head,
        f"{pool.load.requests_per_s:.3g}",
        f"{pool.found.met_ratio:.1%}",
        f"{outcome.itl_s * MS:.0f} ms",
        f"{outcome.use_ratio:.0%}",
        f"{outcome.running:.1f}",
        str(pool.max_running),
        f"{outcome.kv_ratio:.0%}",
        str(pool.found.limit),
    ]


def _missing(layout: Layout) -> list[RenderableType]:
    return [
        Text(f"{count} more {kind} are needed than there are", style="red") for kind, count in layout.missing.items()
    ]


def _alternatives(plan: Plan) -> RenderableType:
    assert plan.layouts is not None
    unit = "an hour" if plan.question.prices else "GiB of cards"
    table = Table("boundaries", "cards", unit, "99% of short wait under", title="alternatives")
    for column in table.columns[2:]:
        column.justify = "right"
    for layout in plan.layouts.found[: ALTERNATIVES_MAX + 1]:
        cards: dict[str, int] = {}
        for pool in layout.pools:
            cards[pool.shape.gpu.name] = cards.get(pool.shape.gpu.name, 0) + pool.cards
        table.add_row(
            ", ".join(f"{boundary:,}" for boundary in layout.boundaries) or "one pool",
            ", ".join(f"{count} x {kind}" for kind, count in cards.items()),
            f"{layout.weight:,.2f}" if plan.question.prices else f"{layout.weight:,.0f}",
            f"{layout.short_wait_s:.2f} s",
        )
    return table


def _sized(plan: Plan) -> RenderableType:
    table = Table("pool", "up to", "replicas, at most", "of", "KV cache", "at once", title="what the cards hold")
    for column in table.columns[1:]:
        column.justify = "right"
    for pool in emitted_pools(plan):
        table.add_row(
            pool.name,
            f"{pool.context_tokens:,}",
            str(pool.replicas[1]),
            f"{pool.ranks} x {pool.gpu}",
            f"{pool.kv_tokens:,}",
            str(pool.max_running),
        )
    return table
