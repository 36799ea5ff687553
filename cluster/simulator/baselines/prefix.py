"""One pool for everything, and routers that look for the longest known prefix.

What must not live here: keeping the replicas' caches (the simulated engine's).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from cluster.core.lease import PoolName
from cluster.simulator.baselines.shared import BaselineRouter, Watched
from cluster.simulator.router import Report

MATCH_RATIO_MIN = 0.3
"""sglang-router's `--cache-threshold`: with less of a prompt known anywhere, the replica with most room gets it."""
IMBALANCE_REQUESTS = 64
IMBALANCE_RATIO = 1.5
"""sglang-router's `--balance-abs-threshold` and `--balance-rel-threshold`: beyond both, load alone decides."""
TREE_BLOCKS_MAX = 32_768
"""sglang-router's `--max-tree-size`, 2^26 characters for each replica, at 4 characters a token and 512 tokens a block;
the least recently used go first."""


class ApproximatePrefix(BaselineRouter):
    """sglang-router's `cache_aware`: remembers what it sent where, and takes that for what is cached there.

    Requests follow the longest remembered prefix; with too little of it, they go where the least is remembered; where
    load is out of balance, to the fewest requests. (sglang-router 0.3, policies/cache_aware.rs.)
    """

    name = "approximate-prefix"

    def __init__(self) -> None:
        super().__init__()
        self._trees: dict[int, OrderedDict[int, None]] = {}

    def joined(self, replica: int, pool: PoolName) -> None:
        """As `Router` says."""
        super().joined(replica, pool)
        self._trees[replica] = OrderedDict()

    def left(self, replica: int) -> None:
        """As `Router` says."""
        super().left(replica)
        del self._trees[replica]

    def choose(self, number: int, among: list[Watched]) -> Watched:
        """As `BaselineRouter` says."""
        loads = [watched.in_flight for watched in among]
        most, fewest = max(loads), min(loads)
        if most - fewest > IMBALANCE_REQUESTS and most > IMBALANCE_RATIO * fewest:
            return min(among, key=lambda watched: watched.in_flight)
        keys = self.desk.keys(number)
        if not keys:
            return min(among, key=lambda watched: watched.in_flight)
        matches = [(_matched(keys, self._trees[watched.replica]), -watched.in_flight) for watched in among]
        longest = max(matches)
        if longest[0] / len(keys) > MATCH_RATIO_MIN:
            return among[matches.index(longest)]
        return min(among, key=lambda watched: len(self._trees[watched.replica]))

    def sent(self, number: int, to: Watched) -> None:
        """As `BaselineRouter` says."""
        super().sent(number, to)
        tree = self._trees[to.replica]
        for key in self.desk.keys(number):
            tree[key] = None
            tree.move_to_end(key)
        while len(tree) > TREE_BLOCKS_MAX:
            tree.popitem(last=False)


class ExactPrefix(BaselineRouter):
    """NVIDIA Dynamo's KV router: follows the replicas' own KV events, and weighs what is left to compute against load.

    Cost of a replica, in tokens: prompt tokens that it would have to compute, those of its queue included, and tokens
    of context in its batch; the least cost wins. (Dynamo's `overlap_score_weight * prefill + decode`, weight 1.)
    """

    name = "exact-prefix"

    def __init__(self) -> None:
        super().__init__()
        self._resident: dict[int, dict[int, int]] = {}
        self._context_tokens: dict[int, int] = {}
        self._overlaps: dict[int, int] = {}

    def joined(self, replica: int, pool: PoolName) -> None:
        """As `Router` says."""
        super().joined(replica, pool)
        self._resident[replica] = {}
        self._context_tokens[replica] = 0

    def left(self, replica: int) -> None:
        """As `Router` says."""
        super().left(replica)
        del self._resident[replica], self._context_tokens[replica]

    def reported(self, report: Report) -> None:
        """As `Router` says."""
        resident = self._resident.get(report.replica)
        if resident is not None:
            for key in report.removes:
                resident.pop(key, None)
            resident.update(report.adds)

    def choose(self, number: int, among: list[Watched]) -> Watched:
        """As `BaselineRouter` says."""
        keys = self.desk.keys(number)
        overlaps = {watched.replica: self._overlap(keys, watched.replica) for watched in among}
        self._overlaps = overlaps
        return min(
            among,
            key=lambda watched: (
                watched.prefill_tokens - overlaps[watched.replica] + self._context_tokens[watched.replica],
                watched.replica,
            ),
        )

    def prefill_tokens(self, number: int, to: Watched) -> int:
        """As `BaselineRouter` says."""
        return self.desk.request(number).prompt_tokens - self._overlaps.get(to.replica, 0)

    def sent(self, number: int, to: Watched) -> None:
        """As `BaselineRouter` says."""
        super().sent(number, to)
        self._context_tokens[to.replica] += self.desk.request(number).prompt_tokens

    def ended(self, number: int, replica: int) -> None:
        """As `Router` says."""
        super().ended(number, replica)
        if replica in self._context_tokens:
            self._context_tokens[replica] -= self.desk.request(number).prompt_tokens

    def _overlap(self, keys: Sequence[int], replica: int) -> int:
        """Prompt tokens that are resident, by the last report."""
        resident = self._resident[replica]
        tokens = 0
        for key in keys:
            known = resident.get(key)
            if known is None:
                break
            tokens = known
        return tokens


def _matched(keys: Sequence[int], tree: OrderedDict[int, None]) -> int:
    """Blocks at the prompt's head that are remembered."""
    matched = 0
    for key in keys:
        if key not in tree:
            break
        matched += 1
    return matched
