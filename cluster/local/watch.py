"""Waiting for pools, shown as it goes: a live table on a terminal, one line a change elsewhere.

What must not live here: starting anything, and what is done when waiting fails.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cluster.core.errors import SetupError
from cluster.core.lease import ReplicaPhase
from cluster.local.observe import PoolStatus

POLL_S = 0.5
FAILURES_MAX = 3
"""Serve tries again by itself; what failed this often will fail again."""
STYLES = {"ready": "green", "failed": "red", "waiting": "dim"}


@dataclass(kw_only=True)
class PoolWatch:
    """Watches pools until all of them are ready.

    Args:
        look: reads the pools; raises SetupError when one of the processes below them is gone.
        console: where people look.
        url: the gateway's address, for the line that says it is usable.
    """

    look: Callable[[], tuple[PoolStatus, ...]]
    console: Console
    url: str
    started: float = field(default_factory=time.monotonic)
    ready_after_s: dict[str, float] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)

    def until_ready(self, *, timeout_s: float) -> None:
        """Return once every pool is ready.

        Raises:
            SetupError: a pool keeps failing, or `timeout_s` is over; the last error is in the message.
        """
        with self._display() as show:
            while True:
                pools = self.look()
                self._note_ready(pools)
                show(pools)
                if all(pool.is_ready for pool in pools):
                    return
                _require_hope(pools)
                if time.monotonic() - self.started > timeout_s:
                    raise _not_ready(pools, f"not ready after {timeout_s:.0f} s")
                time.sleep(POLL_S)

    def _note_ready(self, pools: tuple[PoolStatus, ...]) -> None:
        for pool in pools:
            if pool.is_ready and not pool.is_static and pool.name not in self.ready_after_s:
                waited_s = time.monotonic() - self.started
                usable = f": usable now at {self.url}/v1" if not self.ready_after_s else ""
                self.ready_after_s[pool.name] = waited_s
                self.console.print(
                    f"  [green]{pool.name}[/] pool ready after {waited_s:.0f} s{usable}",
                    highlight=False,
                    soft_wrap=True,
                )

    @contextlib.contextmanager
    def _display(self) -> Iterator[Callable[[tuple[PoolStatus, ...]], None]]:
        if not self.console.is_terminal:
            yield self._say_changes
            return
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            yield lambda pools: live.update(self._table(pools))

    def _table(self, pools: tuple[PoolStatus, ...]) -> Table:
        table = Table.grid(padding=(0, 2))
        elapsed_s = time.monotonic() - self.started
        for pool in pools:
            style = STYLES.get(pool.phase, "yellow")
            table.add_row(
                f"  {pool.name}",
                f"[{style}]{pool.phase}[/]",
                pool.detail,
                f"{pool.ready}/{pool.target}",
                f"{elapsed_s:.0f} s",
            )
        return table

    def _say_changes(self, pools: tuple[PoolStatus, ...]) -> None:
        for pool in pools:
            state = pool.detail or pool.phase
            if pool.phase != "ready" and self._said.get(pool.name) != state:
                self._said[pool.name] = state
                self.console.print(f"  {pool.name}: {state}", highlight=False, markup=False, soft_wrap=True)


def _require_hope(pools: tuple[PoolStatus, ...]) -> None:
    for pool in pools:
        failures = sum(replica.phase == ReplicaPhase.FAILED for replica in pool.replicas)
        if not pool.is_ready and failures >= FAILURES_MAX:
            raise _not_ready((pool,), f"failed {failures} times")


def _not_ready(pools: tuple[PoolStatus, ...], what: str) -> SetupError:
    late = [pool for pool in pools if not pool.is_ready]
    said = "".join(f"\n  {pool.name}: {pool.last_error or pool.detail or pool.phase}" for pool in late)
    names = " and ".join(pool.name for pool in late)
    return SetupError(
        f"pool {names} {what}{said}", f"read the engine's own log: longreach logs {late[0].name if late else 'POOL'}"
    )
