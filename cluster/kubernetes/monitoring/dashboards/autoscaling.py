"""The page of autoscaling: how many replicas there are, should be and may be, and why.

What must not live here: what replicas do (replica.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.dashboards import choices
from cluster.kubernetes.monitoring.panels import Dashboard, Kind, Panel, Query, Row, Unit
from cluster.kubernetes.monitoring.rules.thresholds import THRESHOLDS


def replicas(kinds: str) -> list[Query]:
    """The numbers of these kinds, by pool."""
    expr = f'max by (pool, kind) (longreach_autoscale_replicas{{$P, kind=~"{kinds}"}})'
    return [Query(expr, "{{pool}} {{kind}}")]


REPLICAS = Row(
    title="Replicas",
    panels=(
        Panel(
            title="Replicas decided and ready",
            description="Of pools whose number follows the load (docs/autoscaling.md). Ready stays below decided while "
            "replicas start. Alert LongreachReplicasFlapping: over 8 changes in 30 minutes.",
            unit=Unit.COUNT,
            queries=replicas("decided|ready|starting"),
        ),
        Panel(
            title="Replicas needed",
            description="By the work at hand, and when a replica ordered now would serve; fractions.",
            unit=Unit.COUNT,
            queries=replicas("needed_now|needed_ahead"),
        ),
        Panel(
            title="Decided, and the limits",
            description="replicas.min and replicas.max of the configuration. Alert LongreachAutoscaleAtMax: decided "
            "is at the maximum, and more are needed.",
            unit=Unit.COUNT,
            queries=replicas("decided|min|max"),
        ),
    ),
)
WHY = Row(
    title="Why",
    panels=(
        Panel(
            title="What decided",
            description="prefill, decode, kv: the work; queue_age: waiting; held: requests for an empty pool; idle; "
            "min, max: the limits; pinned: an operator; hysteresis: letting go is put off.",
            unit=Unit.COUNT,
            kind=Kind.STATES,
            width=12,
            texts={1: "decides"},
            queries=[Query("max by (pool, bound) (longreach_autoscale_bound{$P}) > 0", "{{pool}} {{bound}}")],
        ),
        Panel(
            title="Pinned by an operator",
            description="1 while `longreach autoscale pin` holds the number, whatever the load.",
            unit=Unit.COUNT,
            kind=Kind.STATES,
            width=12,
            texts={0: "follows the load", 1: "pinned"},
            queries=[Query("max by (pool) (longreach_autoscale_pinned{$P})", "{{pool}}")],
        ),
        Panel(
            title="Held requests",
            description="Requests that wait in gateways, by the smallest pool that holds them, empty ones too.",
            unit=Unit.COUNT,
            is_stacked=True,
            queries=[Query("sum by (pool) (longreach_held_requests{$P})", "{{pool}}")],
        ),
        Panel(
            title="Requests waiting in engines",
            description="Queued inside the pool's engines, after the gateway gave them a slot.",
            unit=Unit.COUNT,
            queries=[Query("sum by (pool) (vllm:num_requests_waiting{$P})", "{{pool}}")],
        ),
        Panel(
            title="Boundary",
            description="Up to which length requests go to the pool first, where that follows the traffic "
            "(gateway.routing.boundary); longer ones go to the next larger pool.",
            unit=Unit.TOKENS,
            queries=[Query("max by (pool) (longreach_boundary_tokens{$P})", "{{pool}}")],
        ),
    ),
)
ACTING = Row(
    title="Acting on it",
    panels=(
        Panel(
            title="Start of a replica",
            description="From its order to its first request; the median of the last five.",
            unit=Unit.SECONDS,
            queries=[Query("max by (pool) (longreach_autoscale_startup_seconds{$P})", "{{pool}}")],
        ),
        Panel(
            title="Age of the last decision",
            description="Decisions come several times a second. Alert LongreachAutoscalerSilent: none for over the "
            "line.",
            unit=Unit.SECONDS,
            alarm=THRESHOLDS["autoscaler_age_s"].value,
            queries=[Query("max by (pool) (longreach_autoscale_age_seconds{$P})", "{{pool}}")],
        ),
        Panel(
            title="Endpoints by state",
            description="What gateways see of the decision: ready, suspect and draining replicas of each pool.",
            unit=Unit.COUNT,
            queries=[Query("max by (pool, state) (longreach_endpoints{$P})", "{{pool}} {{state}}")],
        ),
        Panel(
            title="Replicas: wanted and healthy",
            description="What Serve tries to reach for each application, and what it holds healthy.",
            unit=Unit.COUNT,
            queries=[
                Query("max by (application) (ray_serve_autoscaling_target_replicas{$S})", "{{application}} wanted"),
                Query("sum by (application) (ray_serve_deployment_replica_healthy{$S})", "{{application}} healthy"),
            ],
        ),
        Panel(
            title="Applications",
            description="As Serve's controller judges them. Alert LongreachServeUnhealthy: failed or unhealthy for 10 "
            "minutes.",
            unit=Unit.COUNT,
            kind=Kind.STATES,
            alarm=3,
            alarm_below=True,
            texts={
                0: "unknown",
                1: "deploy failed",
                2: "unhealthy",
                3: "not started",
                4: "deleting",
                5: "deploying",
                6: "running",
            },
            queries=[Query("max by (application) (ray_serve_application_status{$S})", "{{application}}")],
        ),
        Panel(
            title="Serve's control loop",
            description="How long one turn of the controller takes; seconds mean that healing and scaling are late.",
            unit=Unit.SECONDS,
            queries=[Query("max by (pod) (ray_serve_controller_control_loop_duration_s{$S})", "{{pod}}")],
        ),
    ),
)
AUTOSCALING = Dashboard(
    uid="longreach-autoscaling",
    title="Longreach / Autoscaling",
    description="How many replicas each pool has, should have and may have, and why.",
    home="longreach_endpoints",
    choices=(choices.POOLS,),
    rows=(REPLICAS, WHY, ACTING),
)
