"""The alert rules, all of them, in the order of the file."""

from cluster.kubernetes.monitoring.rules.autoscaling import AUTOSCALING
from cluster.kubernetes.monitoring.rules.gateway import GATEWAY
from cluster.kubernetes.monitoring.rules.latency import LATENCY
from cluster.kubernetes.monitoring.rules.prefix import PREFIX
from cluster.kubernetes.monitoring.rules.recording import RECORDING
from cluster.kubernetes.monitoring.rules.replicas import REPLICAS
from cluster.kubernetes.monitoring.rules.requests import REQUESTS
from cluster.kubernetes.monitoring.rules.state import STATE

GROUPS = (RECORDING, REQUESTS, LATENCY, REPLICAS, AUTOSCALING, STATE, PREFIX, GATEWAY)
