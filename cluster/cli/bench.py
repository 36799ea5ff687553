"""`longreach bench`: measurements that anybody can repeat.

What must not live here: measuring (loadtest).
"""

from __future__ import annotations

import typer

from cluster.cli import (
    bench_gateway,
    bench_grpc,
    bench_loadclient,
    bench_pools,
    bench_prefix,
    bench_resume,
    bench_route,
    bench_simulate,
    bench_start,
)

app = typer.Typer(
    help="Measure the gateway beside its peers, gRPC, routing, prefix caches, pools, cut streams, starts of replicas, "
    "the load client, and the simulator.",
    no_args_is_help=True,
)
app.command()(bench_gateway.gateway)
app.command()(bench_grpc.grpc)
app.command()(bench_route.route)
app.command()(bench_prefix.prefix)
app.command()(bench_simulate.simulate)
app.command()(bench_start.start)
app.command()(bench_loadclient.loadclient)
app.command()(bench_pools.pools)
app.command()(bench_resume.resume)
