"""What is logged and traced.

What must not live here: reading files (file.py), the environment (cluster/environment.py).
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from cluster.config.base import Section

TRACES_PATH, METRICS_PATH = "/v1/traces", "/v1/metrics"
"""OTLP's, over HTTP."""


def with_path(endpoint: str | None, path: str) -> str | None:
    """An OTLP endpoint over HTTP: one that names no path of its own gets the signal's."""
    if endpoint is None or urlsplit(endpoint).path not in {"", "/"}:
        return endpoint
    return endpoint.rstrip("/") + path


class TracesSection(Section):
    """Where traces of requests go, and which. Neither an endpoint nor a file: nowhere."""

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="OTLP collector; default: OTEL_EXPORTER_OTLP_ENDPOINT of the environment, and with it its other "
        "OTEL_EXPORTER_OTLP_* variables count",
    )
    protocol: Literal["grpc", "http/protobuf"] | None = Field(
        default=None, description="Default: OTEL_EXPORTER_OTLP_PROTOCOL, or else grpc"
    )
    file: str | None = Field(
        default=None,
        min_length=1,
        description="Also written to this file, for `longreach trace`; a relative path is in the cluster's folder",
    )
    sampling_ratio: float = Field(default=0.1, ge=0, le=1, description="Of requests whose caller does not decide")
    slow_s: float = Field(default=30.0, gt=0, description="Slower requests are kept whatever the sampling")
    prompts: bool = Field(default=False, description="Whether request bodies, at most 8 KiB of each, are in spans")

    @property
    def vllm_endpoint(self) -> str | None:
        """Where replicas' engines send spans of their own: vLLM takes OTLP over HTTP by its whole path."""
        return self.endpoint if self.protocol != "http/protobuf" else with_path(self.endpoint, TRACES_PATH)


class MetricsSection(Section):
    """Where the gateway's metrics are pushed to, beside being at /metrics of its admin listener."""

    endpoint: str | None = Field(default=None, pattern=r"^https?://", description="OTLP collector; none: no push")
    protocol: Literal["grpc", "http/protobuf"] = "grpc"
    every_s: float = Field(default=30.0, ge=1, le=3600, description="Between two pushes")


class TelemetrySection(Section):
    """What is logged, traced and pushed."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    traces: TracesSection = TracesSection()
    metrics: MetricsSection = MetricsSection()
