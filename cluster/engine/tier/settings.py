"""From the configuration to the plan of a pool's Redis tier, or a sentence that says why it cannot have one.

What must not live here: vLLM's names for things, except those an operator may have used against it.
"""

from __future__ import annotations

from cluster.config import Config, PoolSection
from cluster.core.errors import SetupError
from cluster.engine.plan import RedisTierPlan

GIB = 2**30
HOST_MIN_BYTES = GIB // 4
CONFLICTS = {
    "kv_transfer_config": "it is what the tier is attached with",
    "prefix_caching_hash_algo": "only sha256_cbor gives every process the same name for a block",
}


def redis_tier_plan(config: Config, pool: PoolSection, *, context_kv_bytes: int) -> RedisTierPlan | None:
    """The tier of this pool's replicas; None where it has none.

    Args:
        config: the whole configuration.
        pool: one of its pools.
        context_kv_bytes: KV of one full context, over all ranks.

    Raises:
        SetupError: the pool's other settings exclude it, or nothing says where Redis is.
    """
    wanted, redis = pool.engine.redis_tier, config.redis
    if not wanted.enabled:
        return None
    if redis.cache_url is None:
        raise SetupError(
            f"pool {pool.name}: engine.redis_tier is enabled, and redis.cache_url does not say where KV blocks go; "
            "only `longreach up` brings a server for them along",
            "set redis.cache_url, or switch redis_tier off for this pool",
        )
    _refuse_conflicts(pool)
    host_bytes = max(context_kv_bytes, HOST_MIN_BYTES) if wanted.host_gib is None else int(wanted.host_gib * GIB)
    return RedisTierPlan(
        url=redis.cache_url,
        user=redis.cache_user,
        password_env=redis.cache_password_env,
        password_file=redis.cache_password_file,
        ca_file=redis.cache_ca_file,
        host_bytes=host_bytes,
        ttl_s=wanted.ttl_s,
    )


def _refuse_conflicts(pool: PoolSection) -> None:
    given = {name.replace("-", "_"): value for name, value in pool.engine.extra_args.items()}
    remedy = f"take it out of pools[{pool.name}].engine.extra_args, or switch redis_tier off for this pool"
    for name, reason in CONFLICTS.items():
        if given.get(name) is not None:
            raise SetupError(f"pool {pool.name}: a Redis tier and {name} exclude each other: {reason}", remedy)
    if given.get("enable_prefix_caching") is False or given.get("no_enable_prefix_caching") is True:
        raise SetupError(f"pool {pool.name}: a Redis tier without prefix caching has no blocks to keep", remedy)
    hosts = given.get("nnodes", 1)
    if (isinstance(hosts, int) and hosts > 1) or given.get("distributed_executor_backend", "mp") not in {"mp", "uni"}:
        raise SetupError(
            f"pool {pool.name}: a replica over several hosts cannot have a Redis tier, because its ranks hand KV "
            "blocks over in memory that they share",
            remedy,
        )
