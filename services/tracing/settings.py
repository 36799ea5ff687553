"""What tracing does, from the configuration and the environment together.

What must not live here: doing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluster.config.telemetry import TracesSection
from cluster.environment import Environment

GRPC = "grpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """Where traces go, and which."""

    endpoint: str | None
    """Of a collector; None: nowhere."""
    protocol: str
    file: Path | None
    sampling_ratio: float
    slow_s: float
    prompts: bool


def trace_settings(section: TracesSection, environment: Environment, cluster: str) -> TraceSettings:
    """The settings.

    Args:
        section: of the configuration.
        environment: counts where the section says nothing.
        cluster: its name, for a relative file.

    Raises:
        SetupError: a relative file, and nothing says where local clusters are kept.
    """
    file = None if section.file is None else Path(section.file)
    if file is not None and not file.is_absolute():
        file = environment.run_dir(cluster) / file
    return TraceSettings(
        endpoint=section.endpoint or environment.otlp_endpoint,
        # A configured endpoint is replicas', too, who do not see this environment.
        protocol=section.protocol or (environment.otlp_protocol if section.endpoint is None else None) or GRPC,
        file=file,
        sampling_ratio=section.sampling_ratio,
        slow_s=section.slow_s,
        prompts=section.prompts,
    )
