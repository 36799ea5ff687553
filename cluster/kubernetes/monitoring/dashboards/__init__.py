"""The pages, by file name."""

from cluster.kubernetes.monitoring.dashboards.autoscaling import AUTOSCALING
from cluster.kubernetes.monitoring.dashboards.overview import OVERVIEW
from cluster.kubernetes.monitoring.dashboards.pool import POOL
from cluster.kubernetes.monitoring.dashboards.prefix import PREFIX_CACHE
from cluster.kubernetes.monitoring.dashboards.replica import REPLICA
from cluster.kubernetes.monitoring.dashboards.tenants import TENANTS

DASHBOARDS = {
    "overview.json": OVERVIEW,
    "pool.json": POOL,
    "replica.json": REPLICA,
    "prefix-cache.json": PREFIX_CACHE,
    "autoscaling.json": AUTOSCALING,
    "tenants.json": TENANTS,
}
