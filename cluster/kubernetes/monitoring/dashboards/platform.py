"""The rows of what engines run on: Ray, Ray Serve, GPUs.

What must not live here: engines (replica.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.panels import Kind, Panel, Query, Row, Unit

GPU_PODS = 'namespace="$namespace", pod=~"$release.*"'
EXPORTED_GPU_PODS = 'exported_namespace="$namespace", exported_pod=~"$release.*"'


def gpu(metric: str) -> list[Query]:
    """By GPU; whether the exporter's or the scraper's idea of the pod wins depends on how it is scraped."""
    expr = f"max by (Hostname, gpu) ({metric}{{{GPU_PODS}}} or {metric}{{{EXPORTED_GPU_PODS}}})"
    return [Query(expr, "{{Hostname}} GPU {{gpu}}")]


RAY = Row(
    title="Ray and Ray Serve",
    panels=(
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
            title="Start of a replica",
            description="From Serve's decision to a replica that serves: imports, weights, first token.",
            unit=Unit.MILLISECONDS,
            queries=[
                Query(
                    "sum by (application) (rate(ray_serve_replica_startup_latency_ms_sum{$S}[1h])) "
                    "/ sum by (application) (rate(ray_serve_replica_startup_latency_ms_count{$S}[1h]))",
                    "{{application}}",
                )
            ],
        ),
        Panel(
            title="Serve's control loop",
            description="How long one turn of the controller takes; seconds mean that healing and scaling are late.",
            unit=Unit.SECONDS,
            queries=[Query("max by (pod) (ray_serve_controller_control_loop_duration_s{$S})", "{{pod}}")],
        ),
        Panel(
            title="Logical resources in use",
            description="Share of what Ray may give away; 1 where the next replica has to wait for a node.",
            unit=Unit.RATIO,
            queries=[
                Query(
                    'sum by (Name) (ray_resources{$S, State="USED", Name=~"CPU|GPU"}) '
                    '/ sum by (Name) (ray_resources{$S, Name=~"CPU|GPU"})',
                    "{{Name}}",
                )
            ],
        ),
        Panel(
            title="Memory of Ray's nodes",
            description="Share of each pod's memory in use.",
            unit=Unit.RATIO,
            alarm=0.95,
            queries=[Query("max by (pod) (ray_node_mem_used{$S}) / max by (pod) (ray_node_mem_total{$S})", "{{pod}}")],
        ),
        Panel(
            title="CPU of Ray's nodes",
            description="Share of each pod's cores in use.",
            unit=Unit.PERCENT,
            queries=[Query("max by (pod) (ray_node_cpu_utilization{$S})", "{{pod}}")],
        ),
        Panel(
            title="Ray pods read",
            description="1 where the last scrape of a Ray pod worked. Alert LongreachRayHeadAbsent.",
            unit=Unit.COUNT,
            kind=Kind.STATES,
            alarm=1,
            alarm_below=True,
            texts={0: "down", 1: "up"},
            queries=[
                Query('up{$S, job="longreach-ray"}', "{{pod}}"),
            ],
        ),
    ),
)
GPUS = Row(
    title="GPUs",
    is_collapsed=True,
    panels=(
        Panel(
            title="Busy, as Ray sees it",
            description="Share of time in which a kernel ran, of each GPU that Ray knows. There without any exporter.",
            unit=Unit.PERCENT,
            queries=[Query("max by (pod, GpuIndex) (ray_node_gpus_utilization{$S})", "{{pod}} GPU {{GpuIndex}}")],
        ),
        Panel(
            title="Memory in use, as Ray sees it",
            description="vLLM takes its share at the start and keeps it. There without any exporter.",
            unit=Unit.BYTES,
            queries=[Query("1048576 * max by (pod, GpuIndex) (ray_node_gram_used{$S})", "{{pod}} GPU {{GpuIndex}}")],
        ),
        Panel(
            title="Busy (DCGM)",
            description="Share of time in which a kernel ran. Decoding keeps it high at low load: no measure of room.",
            unit=Unit.PERCENT,
            queries=gpu("DCGM_FI_DEV_GPU_UTIL"),
        ),
        Panel(
            title="Memory in use (DCGM)",
            description="Framebuffer of each GPU, if NVIDIA's DCGM exporter runs.",
            unit=Unit.BYTES,
            queries=[Query(f"1048576 * {query.expr}", query.legend) for query in gpu("DCGM_FI_DEV_FB_USED")],
        ),
        Panel(
            title="Temperature (DCGM)",
            description="Of each GPU's core; cards slow down from some 85 degrees on.",
            unit=Unit.CELSIUS,
            queries=gpu("DCGM_FI_DEV_GPU_TEMP"),
        ),
        Panel(
            title="Power (DCGM)",
            description="Drawn by each GPU; a card at its limit slows down.",
            unit=Unit.WATTS,
            queries=gpu("DCGM_FI_DEV_POWER_USAGE"),
        ),
        Panel(
            title="Last XID (DCGM)",
            description="The driver's last error on each GPU; 0 is none. 48, 63, 64, 79, 94 and 95 are hardware.",
            unit=Unit.COUNT,
            queries=gpu("DCGM_FI_DEV_XID_ERRORS"),
        ),
    ),
)
