"""A replica ordered from afar: what to run is known where it is submitted, how is decided on the node it lands on.

On Kubernetes the submitting process has neither the GPU nor the model's files, and whatever it hands over can be read
in Ray's dashboard; so hardware, folder and the stores' passwords are looked up here, by the replica. What must not
live here: the choices themselves (settings.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.config import Config, PoolSection
from cluster.engine.hardware import detect_hardware
from cluster.engine.plan import ReplicaPlan
from cluster.engine.settings import replica_plan
from cluster.environment import Environment
from cluster.models.opening import open_store
from cluster.models.progress import Progress
from cluster.state.login import StateServer, state_server


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaOrder:
    """One pool of a configuration; Ray pickles it to the replicas."""

    config: Config
    pool_name: str

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self.config.cluster.name

    @property
    def pool(self) -> PoolSection:
        """The pool's section."""
        return self.config.pool(self.pool_name)

    @property
    def state(self) -> StateServer | None:
        """Where the state store is; its password stays where it is."""
        return state_server(self.config.redis)

    def settle(self, environment: Environment, progress: Progress) -> ReplicaPlan:
        """The plan for this node; brings the model here first where it is not in the store yet.

        Raises:
            SourceAwayError: the model's source does not answer now.
            ModelStoreError: the model cannot be had.
            SetupError: this node is not what the pool wants.
        """
        model = self.config.model(self.pool.model)
        source = model.source or model.id
        store = open_store(environment)
        folder = store.pull(source, revision=model.revision, progress=progress)
        return replica_plan(
            self.config,
            self.pool,
            card=store.resolve(source, revision=model.revision),
            folder=str(folder),
            state_url=self.config.redis.state_url,
            hardware=detect_hardware(in_pod=environment.in_pod),
        )
