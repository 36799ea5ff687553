"""`longreach demo`: a short question, a long document, the same document again, side by side.

What must not live here: claims. Every sentence printed is computed from what was measured.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cluster.cli.target import ConfigOption, JsonOption, ModelOption, UrlOption, gateway_url, print_json, run_dir

if TYPE_CHECKING:
    from cluster.local.client import ChatAnswer, GatewayClient

SHORT_QUESTION = "In one sentence: what is a prefix cache?"
SHORT_TOKENS_MAX = 32
LONG_TOKENS_MAX = 24
DOCUMENT_TOKENS = 5_000
"""Ten seconds of prefill on two cores, twice the demo's patience at most."""
ABOVE_SHORT_RATIO = 1.2
"""How far over the smaller pool's limit the document should be, to need the larger one beyond doubt."""
BELOW_LONG_RATIO = 0.7
CALIBRATION_ENTRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One request of the demo."""

    what: str
    pool: str
    reason: str
    prompt_tokens: int | None
    cached_tokens: int | None
    ttft_s: float | None
    text: str


def demo(
    model: ModelOption = None, url: UrlOption = None, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Show in a minute what Longreach is for: pools by context length, and a prefix computed once."""
    from rich.console import Console

    from cluster.environment import read_environment
    from cluster.local.client import GatewayClient

    console = Console(stderr=json)
    started = time.monotonic()
    client = GatewayClient(gateway_url(url, config), api_key=read_environment().secret("LONGREACH_API_KEY"))
    with contextlib.closing(client):
        name = model or client.default_model()
        console.print("1. A short question", style="bold")
        rows = [_ask(client, name, "short question", SHORT_QUESTION, SHORT_TOKENS_MAX, quiet=json)]
        document, question = _document(client, name, pool_limits(name, config))
        console.print("2. A long document, just written, so nobody has it cached", style="bold")
        prompt = f"{document}\n{question}"
        rows.append(_ask(client, name, "long document", prompt, LONG_TOKENS_MAX, quiet=json))
        console.print("3. The same document, the same question", style="bold")
        rows.append(_ask(client, name, "the same again", prompt, LONG_TOKENS_MAX, quiet=json))
    if json:
        print_json({"requests": [asdict(row) for row in rows], "seen": conclusion(rows)})
        return
    console.print()
    console.print(_table(rows))
    console.print(f"\n{conclusion(rows)}  ({time.monotonic() - started:.0f} s)", highlight=False, soft_wrap=True)


def conclusion(rows: Sequence[Measured]) -> str:
    """What the three requests showed, in one sentence, from their own numbers."""
    short, first, again = rows
    if first.pool == short.pool:
        routing = f"All three went to pool {short.pool}"
    else:
        routing = f"The document went to pool {first.pool} while pool {short.pool} stayed free for short questions"
    if again.cached_tokens is None or not again.prompt_tokens:
        cached = "the engine did not say what it had cached"
    else:
        share = again.cached_tokens / again.prompt_tokens
        cached = (
            f"the second time {again.cached_tokens:,} of its {again.prompt_tokens:,} tokens ({share:.0%}) were cached"
        )
    if first.ttft_s is None or again.ttft_s is None:
        return f"{routing}; {cached}."
    if again.ttft_s < first.ttft_s:
        change = f"{first.ttft_s / max(again.ttft_s, 1e-3):.1f} times sooner"
    else:
        change = "no sooner"
    return f"{routing}; {cached}, and the first token came {change} ({first.ttft_s:.2f} s, then {again.ttft_s:.2f} s)."


def document_tokens(limits: Sequence[int]) -> int:
    """How long the document should be, for pools with these context limits: over the smallest, within the largest."""
    if not limits:
        return DOCUMENT_TOKENS
    smallest, largest = min(limits), max(limits)
    wanted = max(DOCUMENT_TOKENS, int(smallest * ABOVE_SHORT_RATIO)) if smallest < largest else DOCUMENT_TOKENS
    return min(wanted, int(largest * BELOW_LONG_RATIO))


def pool_limits(model: str, file: Path | None) -> list[int]:
    """The context limits of a local cluster's pools for `model`; empty when it does not run.

    Args:
        model: by any of its names.
        file: configuration that names the cluster; None takes the one commands mean by default.
    """
    from cluster.config import load_config

    path = run_dir(file).config
    if not path.exists():
        return []
    config = load_config(path)
    owners = {name: entry.id for entry in config.models for name in entry.names}
    return [pool.context_tokens for pool in config.pools if pool.model == owners.get(model)]


def _document(client: GatewayClient, model: str, limits: Sequence[int]) -> tuple[str, str]:
    from cluster.cli.demo_document import write_document

    # A new seed each time: the first of the two requests must find nothing cached.
    seed = random.SystemRandom().randrange(2**32)
    sample, _ = write_document(CALIBRATION_ENTRIES, random.Random(seed))  # noqa: S311 - prose, not secrets
    tokens = client.count_tokens([{"role": "user", "content": sample}], model=model)
    entries = max(1, int(document_tokens(limits) * CALIBRATION_ENTRIES / tokens))
    return write_document(entries, random.Random(seed))  # noqa: S311 - as above


def _ask(client: GatewayClient, model: str, what: str, prompt: str, max_tokens: int, *, quiet: bool) -> Measured:
    messages = [{"role": "user", "content": prompt}]
    answer: ChatAnswer
    with client.chat(messages, model=model, max_tokens=max_tokens, temperature=0) as answer:
        for piece in answer:
            if not quiet:
                typer.echo(piece, nl=False)
    if not quiet:
        typer.secho(f"\n{answer.reason}", dim=True)
    return Measured(
        what=what,
        pool=answer.pool,
        reason=answer.reason,
        prompt_tokens=answer.prompt_tokens,
        cached_tokens=answer.cached_tokens,
        ttft_s=answer.ttft_s,
        text=answer.text,
    )


def _table(rows: Sequence[Measured]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("request", "pool"):
        table.add_column(column)
    for column in ("prompt tokens", "cached", "first token"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.what, row.pool, _number(row.prompt_tokens), _number(row.cached_tokens), _seconds(row.ttft_s))
    return table


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
