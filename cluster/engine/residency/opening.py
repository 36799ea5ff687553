"""Whether a replica can tell what its engine has cached, and the service that does, from before the engine to after it.

Where it cannot, a line in the log says why, and the lease says nothing. What must not live here: vLLM, Ray.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixFacts, chain_root, chunk_bytes_for
from cluster.core.tier.salt import tenant_salt
from cluster.engine.plan import ReplicaPlan
from cluster.engine.residency.content import adapter_digest, model_digest
from cluster.engine.residency.events import FULL_ATTENTION, Subscription
from cluster.engine.residency.kept import KeptBlocks
from cluster.engine.residency.seen import SeenPrompts
from cluster.engine.residency.service import ResidencyService
from cluster.engine.residency.sockets import EventSockets, make_event_sockets
from cluster.engine.residency.tokens import Unfit, read_tokens
from cluster.engine.residency.tree import BlockTree
from cluster.engine.tier.link import TierLink
from cluster.state.kept import KeptWriter
from cluster.state.residency import ResidencyWriter, connect_binary

log = logging.getLogger("longreach.engine")
EPOCH_BITS = 64
OWN_WAY = frozenset({"kv-events-config", "tokenizer", "tokenizer-mode", "skip-tokenizer-init", "data-parallel-size"})
"""Engine arguments by which a pool takes events or tokens out of our hands."""


def plan_obstacle(plan: ReplicaPlan) -> str | None:
    """Why replicas of this plan publish no residency; None where nothing speaks against it yet."""
    extra = {name.replace("_", "-"): value for name, value in plan.extra_args.items()}
    if not plan.prefix_residency:
        return "engine.prefix_residency is false"
    if plan.state_url is None:
        return "there is no state store"
    own = sorted(OWN_WAY & extra.keys())
    if own:
        return f"engine.extra_args sets {own[0]}"
    if extra.get("enable-prefix-caching") is False:
        return "engine.extra_args switches prefix caching off"
    return None


def cache_obstacle(groups: Sequence[Mapping[str, Any]]) -> str | None:
    """Why an engine with these groups of cache blocks cannot be followed; None where it can."""
    if len(groups) != 1:
        return f"the model's cache has {len(groups)} groups"
    if groups[0].get("kind") not in FULL_ATTENTION or groups[0].get("sliding_window"):
        return f"the model's cache is of the kind {groups[0].get('kind')}"
    return None


class ReplicaResidency:
    """One replica's residency through the replica's life; nothing of it fails the replica.

    Attributes:
        sockets: for the engine to publish on; None where it need not.
        prompts: for the engine's wrapper to note prompts in; None where it need not.
    """

    def __init__(self, plan: ReplicaPlan, replica_id: ReplicaId) -> None:
        self._plan = plan
        self._replica_id = replica_id
        self.sockets: EventSockets | None = None
        self.prompts: SeenPrompts | None = None
        self._redis: Redis | None = None
        self._service: ResidencyService | None = None

    @property
    def facts(self) -> dict[str, Any] | None:
        """For the lease: how gateways make this replica's keys; None where it publishes nothing."""
        facts = self._service.facts if self._service is not None else None
        return facts.to_dict() if facts is not None else None

    @property
    def resident_tokens(self) -> int:
        """Tokens in the engine's cache, and with the Redis tier in the host's; 0: not known."""
        return 0 if self._service is None else self._service.resident_tokens

    def prepare(self) -> None:
        """Before the engine starts: make what it publishes on."""
        obstacle = plan_obstacle(self._plan)
        if obstacle is None:
            try:
                self.sockets = make_event_sockets()
            except OSError as error:
                obstacle = str(error)
        if obstacle is None:
            self.prompts = SeenPrompts()
        else:
            self._say_off(obstacle)

    async def start(
        self, kv_groups: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]], tier: TierLink | None = None
    ) -> None:
        """After the engine has started: follow it.

        Args:
            kv_groups: asks it for the groups of its cache: `kind` and `block_size` of each.
            tier: its KV tier, which is told what the engine holds; None where it has none.
        """
        if self.sockets is None or self.prompts is None:
            return
        try:
            made = await self._made(await kv_groups(), self.sockets, self.prompts, tier)
        # Whatever vLLM or a model's files come up with: routing by guess is better than no replica.
        except Exception as error:
            log.exception("replica=%s", self._replica_id)
            made = f"{type(error).__name__}: {error}"
        if isinstance(made, str):
            self._say_off(made)
            self.prompts.close()
            return
        self._service = made
        made.start()

    async def stop(self) -> None:
        """Take back what was published, and the sockets."""
        if self._service is not None:
            await self._service.stop()
        if self._redis is not None:
            await self._redis.aclose()
        if self.sockets is not None:
            await asyncio.to_thread(self.sockets.remove)

    async def _made(
        self,
        groups: Sequence[Mapping[str, Any]],
        sockets: EventSockets,
        prompts: SeenPrompts,
        tier: TierLink | None,
    ) -> ResidencyService | str:
        """The service, or why there is none."""
        plan = self._plan
        obstacle = cache_obstacle(groups)
        if obstacle is not None or plan.state is None:
            return obstacle or "there is no state store"
        tokens = await asyncio.to_thread(read_tokens, Path(plan.folder))
        if isinstance(tokens, Unfit):
            return tokens.reason
        facts = await asyncio.to_thread(prefix_facts, plan, int(groups[0]["block_size"]))
        log.info("replica=%s residency on: %s", self._replica_id, facts)
        self._redis = connect_binary(plan.state, wait_s=0)
        tree = BlockTree(
            root_of=partial(root_of, facts),
            token_bytes=tokens.table,
            chunk_bytes=facts.chunk_bytes,
            block_tokens=facts.block_tokens,
        )
        return ResidencyService(
            facts=facts,
            tokens=tokens,
            tree=tree,
            source=Subscription(events=sockets.events, replay=sockets.replay),
            sink=ResidencyWriter(self._redis, plan.cluster, self._replica_id),
            prompts=prompts,
            random_u64=lambda: secrets.randbits(EPOCH_BITS),
            kept=None if tier is None else self._kept(tree, tier, self._redis),
        )

    def _kept(self, tree: BlockTree, tier: TierLink, redis: Redis) -> tuple[KeptBlocks, KeptWriter] | None:
        """What Redis keeps of the tree's blocks, and where it is told; has the tier know the tree."""
        if tier.fingerprint is None:
            return None
        kept = KeptBlocks(tree, life_s=tier.life_s, clock=time.monotonic)
        tier.meet_residency(local_blocks=tree.leading, kept=kept.kept)
        return kept, KeptWriter(redis, self._plan.cluster, tier.fingerprint, life_s=tier.life_s)

    def _say_off(self, obstacle: str) -> None:
        log.info("replica=%s residency off: %s", self._replica_id, obstacle)


def root_of(facts: PrefixFacts, adapter: str | None, salt: str | None) -> bytes | None:
    """Where the chain of an adapter (by name) and an engine's salt begins; None for an adapter nobody knows."""
    digest = "" if adapter is None else facts.adapters.get(adapter)
    if digest is None:
        return None
    return chain_root(model_digest=facts.model_digest, adapter_digest=digest, salt=tenant_salt(salt) or "")


def prefix_facts(plan: ReplicaPlan, block_tokens: int) -> PrefixFacts:
    """What the lease says of this replica's chains; reads adapters whole.

    Raises:
        OSError: the model's or an adapter's folder cannot be read.
    """
    return PrefixFacts(
        model_digest=model_digest(Path(plan.folder)),
        chunk_bytes=chunk_bytes_for(block_tokens),
        block_tokens=block_tokens,
        adapters={name: adapter_digest(Path(path)) for name, path in plan.lora},
    )
