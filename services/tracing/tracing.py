"""Tracing of one gateway process: what a request notes, whether its spans are kept, where they go.

What must not live here: what the spans say (services/api/spans.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from cluster.core.errors import SetupError
from cluster.core.trace_context import TRACEPARENT, TRACESTATE, new_context, parse_traceparent, rejected_below
from services.tracing.exporter import Exporter, Sink
from services.tracing.file_sink import FileSink
from services.tracing.recording import Recording
from services.tracing.resource import process_resource
from services.tracing.settings import TraceSettings
from services.tracing.span import Span, encode_span

UNSAMPLED_PER_S = 50.0
"""Errors and slow requests that are kept beyond the sampling: in an overload everything is one."""
UNSAMPLED_BURST = 200.0


class Tracing:
    """Made once; used by the event loop alone."""

    def __init__(
        self,
        settings: TraceSettings,
        sinks: Sequence[Sink],
        *,
        rng: random.Random,
        clock: Callable[[], float],
    ) -> None:
        """Start a thread for each sink.

        Args:
            settings: which requests are kept.
            sinks: where they go.
            rng: for ids and sampling.
            clock: monotonic seconds.
        """
        self.settings = settings
        self._threshold = rejected_below(settings.sampling_ratio)
        self._rng = rng
        self._clock = clock
        self._exporters = [Exporter(sink) for sink in sinks]
        self._tokens, self._tokens_at_s = UNSAMPLED_BURST, clock()

    def begin(self, headers: Mapping[str, str]) -> Recording:
        """A request has come, with these headers of its client's."""
        told = headers.get(TRACEPARENT)
        parent = None if told is None else parse_traceparent(told, headers.get(TRACESTATE))
        return Recording(new_context(parent, self._rng, self._threshold), parent)

    def keeps(self, recording: Recording, *, is_error: bool, seconds: float) -> bool:
        """Whether the spans of a request that has ended are exported; asked once."""
        return recording.context.is_sampled or ((is_error or seconds >= self.settings.slow_s) and self._takes())

    def _takes(self) -> bool:
        """Whether one more may be kept beyond the sampling."""
        now_s = self._clock()
        grown = self._tokens + (now_s - self._tokens_at_s) * UNSAMPLED_PER_S
        self._tokens, self._tokens_at_s = min(grown, UNSAMPLED_BURST), now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def export(self, spans: Sequence[Span]) -> None:
        """Send spans away; never waits, never raises."""
        encoded = [encode_span(span) for span in spans]
        for exporter in self._exporters:
            exporter.take(encoded)

    def spans(self) -> Mapping[str, int]:
        """What became of spans so far: `exported`, `failed`, `dropped`; each counts once for each sink."""
        exporters = self._exporters
        return {
            "exported": sum(one.exported for one in exporters),
            "failed": sum(one.failed for one in exporters),
            "dropped": sum(one.dropped for one in exporters),
        }

    def close(self) -> None:
        """Send what is left; some seconds at most."""
        for exporter in self._exporters:
            exporter.close()


def sinks_of(settings: TraceSettings, cluster: str) -> list[Sink]:
    """What the settings name."""
    resource = process_resource(cluster)
    found: list[Sink] = []
    if settings.file is not None:
        found.append(FileSink(settings.file, resource))
    if settings.endpoint is not None:
        # Only where it is used: its imports take a quarter of a second.
        from services.tracing.otlp_sink import OtlpSink

        try:
            found.append(OtlpSink(settings, resource))
        except Exception as error:
            raise SetupError(
                f"traces cannot be sent to {settings.endpoint}: {error}",
                "look at telemetry.traces and the OTEL_EXPORTER_OTLP_* variables of the environment",
            ) from error
    return found
