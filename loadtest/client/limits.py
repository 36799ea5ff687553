"""Whether the client was the bottleneck: what its processes measured, put together and judged.

What must not live here: measuring (health.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadtest.client.answer import ErrorKind
from loadtest.record import Record

LAG_S = 0.005
"""Of event loops at p99: every time of a run is then wrong by as much, which is a good part of a token's time."""
LATE_S = 0.010
"""Of sending, at p99: arrivals are no longer the ones that were asked for."""
IDLE_RATIO = 0.3
"""Of a core: a client that uses less and is late all the same waits for the processor."""
CPU_RATIO = 0.8
"""Of a core, in the mean over the run: peaks are at the whole of it then, and answers wait to be read."""


def merged(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What several processes measured, as one: the worst of each, since the worst one bends the run's figures."""
    names = {name for part in parts for name in part}
    worst = {name: max(part.get(name, 0.0) for part in parts) for name in sorted(names)}
    return {**worst, "processes": float(len(parts))}


def warnings(client: Mapping[str, float], records: Sequence[Record]) -> tuple[str, ...]:
    """Why the run's figures may say more about the client than about the server; empty: nothing points to it.

    Args:
        client: what `merged` made.
        records: the run's.
    """
    is_idle = client.get("cpu_ratio", 0.0) < IDLE_RATIO
    remedy = (
        "other programs take its cores, so run it on a machine of its own"
        if is_idle
        else "use more --processes, other machines or a lower --rate"
    )
    found = []
    if client.get("lag_p99_s", 0.0) > LAG_S:
        found.append(f"the client's event loop was up to {client['lag_p99_s'] * 1000:.1f} ms late at p99: {remedy}")
    if client.get("late_p99_s", 0.0) > LATE_S:
        found.append(f"requests were sent up to {client['late_p99_s'] * 1000:.1f} ms late at p99: {remedy}")
    if client.get("cpu_ratio", 0.0) > CPU_RATIO:
        found.append(f"a client process used {client['cpu_ratio']:.0%} of a core: {remedy}")
    unsent = sum(record.error == ErrorKind.CLIENT and record.code == "in_flight_max" for record in records)
    if unsent:
        found.append(
            f"{unsent} sessions were due and not sent, because --max-in-flight others were under way: raise it, or see "
            "whether the server keeps up at all"
        )
    return tuple(found)
