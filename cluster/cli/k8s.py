"""`longreach k8s`: look at a Kubernetes cluster and at a release in it, and write its values.

What must not live here: how any of it is done (cluster/kubernetes), tables (k8s_view.py).
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.k8s_target import (
    DEFAULT_RELEASE,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    RedisPasswordEnvOption,
    RedisUrlOption,
    ReleaseOption,
    in_pod,
    kubernetes,
    named_redis,
)
from cluster.cli.target import JsonOption, print_json

if TYPE_CHECKING:
    from cluster.kubernetes.api import ClusterApi
    from cluster.kubernetes.inventory import Inventory
    from cluster.kubernetes.release.join import ReleaseView
    from cluster.state.login import StateServer

app = typer.Typer(help="Look at a Kubernetes cluster and a release in it; write its values.", no_args_is_help=True)
EXIT_BLOCKED = 1
WATCH_INTERVAL_S = 2.0
"""Four lists a look: what an API server does not notice."""
FILE_BYTES_MAX = 64 << 20
"""An inventory of 5,000 nodes is some 5 MB."""
ManifestsOption = Annotated[
    Path | None, typer.Option("--manifests", help="Output of `helm template`, to compare with quotas and limits.")
]


@app.command()
def doctor(
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    release: ReleaseOption = DEFAULT_RELEASE,
    manifests: ManifestsOption = None,
    redis_url: RedisUrlOption = None,
    redis_password_env: RedisPasswordEnvOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Show what is fine, too.")] = False,
    json: JsonOption = False,
) -> None:
    """Find what keeps a release from being installed or from serving; each finding has its remedy."""
    from rich.console import Console

    from cluster.cli.k8s_view import findings_view
    from cluster.kubernetes.doctor.run import Examination, examine

    wish = Examination(
        release=release,
        manifests=None if manifests is None else _documents(manifests),
        redis=named_redis(redis_url, redis_password_env),
        in_cluster=in_pod(),
    )
    with kubernetes(namespace, context, kubeconfig) as api:
        findings = examine(api, wish)
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        Console().print(findings_view(findings, everything=everything))
    if any(finding.blocks for finding in findings):
        raise typer.Exit(EXIT_BLOCKED)


@app.command()
def inventory(
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show GPU nodes by kind: how many, how many free, memory, taints, zones. `values` reads the JSON."""
    from rich.console import Console

    from cluster.cli.k8s_view import inventory_view
    from cluster.kubernetes.inventory import inventory_to_dict
    from cluster.kubernetes.reading import read_inventory

    with kubernetes(namespace, context, kubeconfig) as api:
        found, _ = read_inventory(api)
    if json:
        print_json(inventory_to_dict(found))
    else:
        Console().print(inventory_view(found))


@app.command()
def status(
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    release: ReleaseOption = DEFAULT_RELEASE,
    redis_url: RedisUrlOption = None,
    redis_password_env: RedisPasswordEnvOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep looking, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Show a release: RayServices, pools, pods, replicas by their leases, recent warnings."""
    from rich.console import Console
    from rich.live import Live

    from cluster.cli.k8s_view import release_view

    if watch and json:
        raise typer.BadParameter("--watch draws a table: leave --json out")
    redis = named_redis(redis_url, redis_password_env)
    with kubernetes(namespace, context, kubeconfig) as api:
        if watch:
            with Live(console=Console(), auto_refresh=False) as live:
                try:
                    while True:
                        live.update(release_view(_look(api, release, redis)), refresh=True)
                        time.sleep(WATCH_INTERVAL_S)
                except KeyboardInterrupt:
                    return
        view = _look(api, release, redis)
    if json:
        print_json(asdict(view))
    else:
        Console().print(release_view(view))
    if view.problems:
        raise typer.Exit(EXIT_BLOCKED)


@app.command()
def values(
    model: Annotated[str, typer.Option("--model", "-m", help="Catalog id, hub id of the catalog, or a folder.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: print it.")] = None,
    inventory_file: Annotated[
        Path | None, typer.Option("--inventory", help="Output of `inventory --json`, instead of a cluster.")
    ] = None,
    context_tokens: Annotated[
        int | None, typer.Option("--context-tokens", min=4096, help="Longest context; default: the model's.")
    ] = None,
    gpu_memory_ratio: Annotated[
        float, typer.Option("--gpu-memory-ratio", min=0.1, max=1.0, help="Share of a card the engine may take.")
    ] = 0.9,
    all_cards: Annotated[bool, typer.Option("--all-cards", help="Count GPUs that other pods use now, too.")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    json: JsonOption = False,
) -> None:
    """Write a values file for a model: pools with honest context limits for the GPUs there are."""
    from cluster.kubernetes.models import card_of
    from cluster.kubernetes.values import Wish, plan_values, values_text

    wish = Wish(
        model=model,
        card=card_of(model),
        context_tokens=context_tokens,
        memory_ratio=gpu_memory_ratio,
        all_cards=all_cards,
    )
    plan = plan_values(_inventory(inventory_file, namespace, context, kubeconfig), wish)
    text = values_text(plan, wish)
    if output is not None:
        _write(output, text)
    if json:
        print_json({"values": plan.values, "notes": plan.notes, "pools": [asdict(pool) for pool in plan.sizing.pools]})
    elif output is None:
        typer.echo(text, nl=False)
    else:
        for note in plan.notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"Wrote {output}")


@app.command()
def rbac(
    command: Annotated[
        str,
        typer.Argument(help="inventory, status, doctor, install; all: the first three.", metavar="COMMAND"),
    ] = "all",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the release.")] = "default",
    json: JsonOption = False,
) -> None:
    """Print the Role and ClusterRole that a command needs, for kubectl apply."""
    import yaml

    from cluster.kubernetes.rights import Command, role_documents

    names = [str(known) for known in Command]
    if command not in {"all", *names}:
        raise typer.BadParameter(f"{command!r}: one of {', '.join(names)}, all")
    wanted = [known for known in Command if known is not Command.INSTALL] if command == "all" else [Command(command)]
    documents = role_documents(wanted, namespace=namespace)
    if json:
        print_json(documents)
    else:
        typer.echo(yaml.safe_dump_all(documents, sort_keys=False), nl=False)


def _look(api: ClusterApi, release: str, redis: StateServer | None) -> ReleaseView:
    from datetime import UTC, datetime

    from cluster.kubernetes.release.join import release_view as join
    from cluster.kubernetes.release.leases import read_records
    from cluster.kubernetes.release.read import read_release

    objects = read_release(api, release)
    records = read_records(objects.config, redis, namespace=api.namespace, in_cluster=in_pod())
    return join(objects, records, now=datetime.now(UTC))


def _inventory(file: Path | None, namespace: str | None, context: str | None, kubeconfig: Path | None) -> Inventory:
    from cluster.kubernetes.inventory import inventory_from_json
    from cluster.kubernetes.reading import read_inventory

    if file is not None:
        return inventory_from_json(_read(file), origin=str(file))
    with kubernetes(namespace, context, kubeconfig) as api:
        return read_inventory(api)[0]


def _read(path: Path) -> str:
    from cluster.core.errors import SetupError

    try:
        with path.open(encoding="utf-8") as file:
            return file.read(FILE_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {error}", "name a file that exists") from error


def _write(path: Path, text: str) -> None:
    from cluster.core.errors import SetupError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error}", "name another --output") from error


def _documents(path: Path) -> list[Any]:
    import yaml

    from cluster.core.errors import SetupError

    try:
        return [*yaml.safe_load_all(_read(path))]
    except yaml.YAMLError as error:
        raise SetupError(f"{path} is not YAML: {error}", "name what `helm template` wrote") from error
