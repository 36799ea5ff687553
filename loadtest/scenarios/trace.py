"""trace: the requests of a Mooncake or Azure file, or drawn from a fit of one, with text of the same lengths.

Equal hash ids become equal text, so that prefixes are shared as in the trace. What must not live here: reading and
drawing traces (cluster/simulator/traces).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cluster.core.errors import SetupError
from cluster.simulator.trace import Trace, TraceRequest
from cluster.simulator.traces import DEFAULT_FIT, builtin_fits, generate, read_trace
from loadtest.plan import Kind, Session, Turn
from loadtest.scenarios.chat import TOKENS_MAX
from loadtest.scenarios.options import option
from loadtest.scenarios.scenario import ArrivalKind, Arrivals, Context, Options, Scenario
from loadtest.scenarios.sizes import fitting

BLOCKS_KEPT = 8_192
"""Blocks of text; 3 KiB each."""
FITS = ("azure-code", "azure-conversation", "mooncake-conversation")
REQUESTS_MAX = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay(Options):
    """Lengths, prefixes and times of a trace."""

    file: str = option("", "Trace in Mooncake's or Azure's format; empty: drawn from a fit.")
    fit: str = option(DEFAULT_FIT, "Without a file: whose distributions.", choices=FITS)
    requests: int = option(1_000, "The file's first so many, or so many drawn.", low=1, high=REQUESTS_MAX)
    output_tokens_max: int = option(TOKENS_MAX, "Answers are cut here, in tokens.", low=1, high=TOKENS_MAX)
    kind: str = option(
        Kind.CHAT, "completion: the text is the prompt, without a template.", choices=(Kind.CHAT, Kind.COMPLETION)
    )

    def trace(self, context: Context) -> Trace:
        """What is replayed.

        Raises:
            SetupError: the file cannot be read.
            TraceError: it has a mistake.
        """
        return _trace(self.file, self.fit, self.requests, context.seed)

    def due_s(self, context: Context) -> Iterator[float]:
        """The trace's own times."""
        return (request.arrival_s for request in self.trace(context).requests)

    def sessions(self, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """One request each, to the end of the trace or of the due times."""
        trace = self.trace(context)
        is_chat = self.kind == Kind.CHAT
        wrapping = context.writer.wrapping
        around = wrapping.chat_tokens if is_chat else wrapping.completion_tokens

        @lru_cache(maxsize=BLOCKS_KEPT)
        def block(number: int) -> str:
            return "".join(_words(context, number, trace.block_tokens))

        # Requests first: the trace's end takes no further due time.
        for number, (request, at_s) in enumerate(zip(trace.requests, due_s, strict=False)):
            prompt, output = self._fitting(request, context)
            tokens = max(prompt - around, 1)
            if request.blocks:
                whole, rest = divmod(tokens, trace.block_tokens)
                parts = [block(one) for one in request.blocks[:whole]]
                parts += _words(context, request.blocks[whole], trace.block_tokens)[:rest] if rest else []
                text = "".join(parts)
            else:
                text = context.writer.text(context.words("request", number), tokens)
            yield Session(
                at_s=at_s,
                turns=(Turn(text=text, output_tokens=output, prompt_tokens=tokens + around),),
                kind=Kind(self.kind),
                label="trace",
            )

    def notes(self, context: Context) -> Sequence[str]:
        """How many requests are cut."""
        requests = self.trace(context).requests
        cut = sum(
            self._fitting(request, context) != (request.prompt_tokens, self._output(request)) for request in requests
        )
        if not cut:
            return ()
        note = (
            f"{cut:,} of {len(requests):,} requests do not fit the largest context, {context.context_tokens:,} tokens: "
            "they are sent as long as it allows, cut at their end"
        )
        return (note,)

    def _output(self, request: TraceRequest) -> int:
        return min(request.output_tokens, self.output_tokens_max)

    def _fitting(self, request: TraceRequest, context: Context) -> tuple[int, int]:
        return fitting(request.prompt_tokens, self._output(request), context)


@lru_cache(maxsize=1)
def _trace(file: str, fit: str, requests: int, seed: int) -> Trace:
    if not file:
        return generate(builtin_fits()[fit], requests=requests, seed=seed)
    trace = read_trace(Path(file))
    if not trace.requests:
        raise SetupError(f"{file} has no requests", "name another file")
    return Trace(name=trace.name, block_tokens=trace.block_tokens, requests=tuple(trace.requests[:requests]))


def _words(context: Context, block: int, tokens: int) -> list[str]:
    return context.writer.words(context.words("block", block), tokens)


TRACE = Scenario(
    name="trace",
    sentence="A public trace replayed: its lengths, times and shared prefixes, with synthetic text.",
    kind=Replay,
    arrivals=Arrivals(kind=ArrivalKind.TRACE, rate_per_s=0.0, duration_s=0.0),
)
