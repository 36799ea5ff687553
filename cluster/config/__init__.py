"""The configuration file: one typed schema, and the loader that turns a mistake into a line, a field and a remedy."""

from cluster.config.base import Name, Section
from cluster.config.file import load_config, parse_config, parse_section
from cluster.config.gateway import (
    AdminSection,
    AuthSection,
    GatewaySection,
    LimitsSection,
    RoutingSection,
    TenantSection,
    TlsSection,
)
from cluster.config.pools import (
    AutoscalingSection,
    ClusterSection,
    EndpointSection,
    EngineSection,
    LoraSection,
    ModelSection,
    OutputSection,
    PoolSection,
    RedisTierSection,
    ReplicasSection,
    SamplingSection,
)
from cluster.config.schema import Config, RedisSection
from cluster.config.telemetry import MetricsSection, TelemetrySection, TracesSection

__all__ = [
    "AdminSection",
    "AuthSection",
    "AutoscalingSection",
    "ClusterSection",
    "Config",
    "EndpointSection",
    "EngineSection",
    "GatewaySection",
    "LimitsSection",
    "LoraSection",
    "MetricsSection",
    "ModelSection",
    "Name",
    "OutputSection",
    "PoolSection",
    "RedisSection",
    "RedisTierSection",
    "ReplicasSection",
    "RoutingSection",
    "SamplingSection",
    "Section",
    "TelemetrySection",
    "TenantSection",
    "TlsSection",
    "TracesSection",
    "load_config",
    "parse_config",
    "parse_section",
]
