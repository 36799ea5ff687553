"""Values of the gateway side: gateways, access, networks, monitoring.

What must not live here: Ray (ray.py), the configuration file (cluster/config).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cluster.config import Section
from cluster.kubernetes.chart.base import Duration, Extras, KubernetesName, Port, Raw, Resources, Scheduling


class GatewayAutoscaling(Section):
    """The HorizontalPodAutoscaler of the gateways; it needs the metrics API."""

    enabled: bool = True
    minReplicas: int = Field(default=2, ge=1, description="Gateways that always run")
    maxReplicas: int = Field(default=8, ge=1, description="Gateways at most")
    targetCPUUtilizationPercentage: int = Field(default=70, ge=1, le=100, description="Of the requested CPU")


class DisruptionBudget(Section):
    """How many gateways an eviction may take at once."""

    enabled: bool = True
    maxUnavailable: int = Field(default=1, ge=1, description="Gateways that may be away at once")


class GatewayService(Section):
    """The Service for REST."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(default="ClusterIP", description="Of the Service")
    port: Port = Field(default=80, description="Of the Service; gRPC is at 8082")
    annotations: dict[str, str] = Field(default_factory=dict, description="E.g. what a load balancer reads")


class GrpcIngress(Section):
    """An Ingress for gRPC; its controller needs an annotation for that."""

    enabled: bool = False
    annotations: dict[str, str] = Field(default_factory=dict, description="What its controller reads")
    hosts: list[str] = Field(default_factory=list, description="At least one")
    tlsSecret: KubernetesName = Field(default="", description="Certificate for its hosts; empty: no TLS there")


class Ingress(Section):
    """An Ingress for REST."""

    enabled: bool = False
    className: KubernetesName = Field(default="", description="Ingress class of both")
    annotations: dict[str, str] = Field(default_factory=dict, description="What its controller reads")
    hosts: list[str] = Field(default_factory=list, description="At least one")
    tlsSecret: KubernetesName = Field(default="", description="Certificate for its hosts; empty: no TLS there")
    grpc: GrpcIngress = GrpcIngress()


class GatewayApi(Section):
    """HTTPRoute and GRPCRoute."""

    enabled: bool = False
    parentRefs: list[Raw] = Field(default_factory=list, description="The Gateway they belong to")
    hostnames: list[str] = Field(default_factory=list, description="Of the HTTPRoute")
    grpcHostnames: list[str] = Field(default_factory=list, description="Of the GRPCRoute")


class Gateway(Scheduling, Extras):
    """The gateways' Deployment and what is around it."""

    replicas: int = Field(default=2, ge=1, description="Without autoscaling")
    resources: Resources = Resources(requests={"cpu": "1", "memory": "1Gi"}, limits={"memory": "2Gi"})
    autoscaling: GatewayAutoscaling = GatewayAutoscaling()
    podDisruptionBudget: DisruptionBudget = DisruptionBudget()
    topologySpread: bool = Field(default=True, description="Spread over zones and hosts where possible")
    extraEnv: list[Raw] = Field(default_factory=list, description="Further environment of its container")
    service: GatewayService = GatewayService()
    ingress: Ingress = Ingress()
    gatewayApi: GatewayApi = GatewayApi()


class ApiKeys(Section):
    """Who may ask."""

    existingSecret: KubernetesName = Field(
        default="",
        description="Keys `keys.yaml` (as `longreach keys` writes it), `client` (a key, for the test hook) and `admin` "
        "(a key of role admin, for Prometheus); none: the chart makes them and keeps them",
    )
    tenant: str = Field(default="default", description="Whose the chart's own key is")


class Credential(Section):
    """What gateways show to replicas."""

    existingSecret: KubernetesName = Field(default="", description="None: the chart makes one and keeps it")
    key: str = Field(default="credential", description="Key in the Secret")


class CertManager(Section):
    """A certificate from cert-manager."""

    enabled: bool = False
    issuerRef: Raw = Field(default_factory=dict, description="`name`, and `kind` where it is a ClusterIssuer")
    dnsNames: list[str] = Field(default_factory=list, description="Beside the Services' own names")


class Tls(Section):
    """TLS on the gateways' listeners, REST and gRPC."""

    enabled: bool = False
    existingSecret: KubernetesName = Field(default="", description="Of type kubernetes.io/tls")
    clientCa: bool = Field(default=False, description="Ask clients for a certificate of the Secret's ca.crt")
    certManager: CertManager = CertManager()


class Destination(Section):
    """Addresses and ports; an empty list is nowhere."""

    cidrs: list[str] = Field(default_factory=list, description="None: nowhere")
    ports: list[Port] = Field(default_factory=list, description="None: nowhere")


class Resolver(Section):
    """The cluster's DNS."""

    peers: list[Raw] = Field(
        default=[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
        description="Its pods; on OpenShift the namespace openshift-dns",
    )
    ports: list[Port] = Field(default=[53, 5353], description="Of its pods; OpenShift's listen on 5353")


class NetworkPolicy(Section):
    """Who may talk to whom; everything not named is closed."""

    enabled: bool = True
    clients: list[Raw] = Field(default_factory=list, description="Peers that may reach the gateways; none: everybody")
    monitoring: list[Raw] = Field(default_factory=list, description="Peers that may read metrics; none: nobody")
    operator: list[Raw] = Field(
        default=[
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}},
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
            }
        ],
        description="The KubeRay operator's pods, which submit applications to the head; none: nobody",
    )
    dns: Resolver = Field(default=Resolver(), description="Where names are resolved")
    apiServer: Destination = Field(
        default=Destination(cidrs=["0.0.0.0/0", "::/0"], ports=[443, 6443]), description="For Ray's autoscaler"
    )
    modelSources: Destination = Field(
        default=Destination(cidrs=["0.0.0.0/0", "::/0"], ports=[443]), description="Hub or mirror"
    )
    extraEgress: list[Raw] = Field(default_factory=list, description="Further rules for gateways and Ray")


class ServiceAccount(Section):
    """The account of every pod but the autoscaler's; no token is mounted."""

    create: bool = Field(default=True, description="Make it; off: `name`, or the namespace's own")
    name: KubernetesName = Field(default="", description="Empty: the release's name")
    headName: KubernetesName = Field(
        default="", description="An account of your own for Ray's autoscaler; empty: the chart makes one"
    )
    annotations: dict[str, str] = Field(default_factory=dict, description="E.g. a cloud's identity")


class Rbac(Section):
    """Roles."""

    viewer: bool = Field(
        default=False, description="An account and a Role that may read what `longreach k8s status` shows"
    )


class PodSecurity(Section):
    """User and groups of every pod; null leaves the choice to the cluster (OpenShift)."""

    runAsUser: int | None = Field(default=10001, ge=1, description="Any user works; null: the cluster chooses")
    runAsGroup: int | None = Field(default=0, ge=0, description="null: the cluster chooses")
    fsGroup: int | None = Field(default=10001, ge=1, description="Owns volumes; null: the cluster chooses")


class Monitor(Section):
    """A monitor for the Prometheus operator."""

    enabled: bool = False
    interval: Duration = Field(default="15s", description="Between two scrapes")
    labels: dict[str, str] = Field(default_factory=dict, description="What your Prometheus selects by")


class PrometheusRule(Section):
    """Alerts."""

    enabled: bool = False
    labels: dict[str, str] = Field(default_factory=dict, description="What your Prometheus selects by")
    runbookUrl: str = Field(
        default="", description="Where docs/runbooks is, for alerts and dashboards; empty: the path in the repository"
    )
    thresholds: dict[str, int | float] = Field(
        default_factory=dict, description="By the names in docs/monitoring.md; unknown ones are refused"
    )


class Dashboards(Section):
    """Grafana dashboards as ConfigMaps."""

    enabled: bool = False
    labels: dict[str, str] = Field(default={"grafana_dashboard": "1"}, description="What Grafana's sidecar selects by")
    annotations: dict[str, str] = Field(default_factory=dict, description="E.g. the folder in Grafana")


class Monitoring(Section):
    """Prometheus and Grafana."""

    serviceMonitor: Monitor = Monitor()
    podMonitor: Monitor = Monitor()
    scrapeConfig: Monitor = Field(
        default=Monitor(), description="Replicas' own metrics, through the gateways; Prometheus operator 0.65 or newer"
    )
    prometheusRule: PrometheusRule = PrometheusRule()
    dashboards: Dashboards = Dashboards()


class Otel(Section):
    """OpenTelemetry's standard variables for gateways and Ray; this version exports nothing by itself yet."""

    endpoint: str = Field(default="", description="OTEL_EXPORTER_OTLP_ENDPOINT, with its port")
    protocol: Literal["grpc", "http/protobuf"] = Field(default="grpc", description="OTEL_EXPORTER_OTLP_PROTOCOL")
    headersSecret: KubernetesName = Field(default="", description="Secret whose key `headers` has further headers")


class Tests(Section):
    """The pods of `helm test`: a request over REST, one over gRPC; none with tls.clientCa, having no certificate."""

    enabled: bool = True
    waitSeconds: int = Field(default=600, ge=1, description="Longest wait for a first replica")
    caKey: str = Field(default="ca.crt", description="With TLS: key of the CA in its Secret; empty: the system's CAs")
