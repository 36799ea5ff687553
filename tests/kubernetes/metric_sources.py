"""Which metrics exist, with which labels, read from what makes them: our own modules, and the sources of vLLM and Ray.

vLLM and Ray are read, not imported: that takes a minute. What must not live here: which metrics are used.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from cluster.engine.tier import stats
from services.gateway import metric_specs

TARGET = frozenset({"namespace", "release", "job", "instance"})
"""What every target gets; the chart's monitors set them (docs/monitoring.md)."""
GATEWAY_TARGET = TARGET | {"pod", "component"}
RAY_TARGET = TARGET | {"pod", "component"}
REPLICA_TARGET = TARGET | {"pool", "replica", "model"}
"""services/gateway/scrapes.py gives the last three."""
OF_ENGINE = frozenset({"model_name", "engine"})
RAYS_OWN = frozenset({"Component", "NodeAddress", "SessionName", "Version", "WorkerId"})
SCRAPES = ("up", "scrape_duration_seconds")
"""Prometheus makes these for every target."""
KUBELET = {name: frozenset({"namespace", "pod", "container"}) for name in (
    "container_cpu_usage_seconds_total", "container_memory_working_set_bytes",
)}  # fmt: skip
"""Of cAdvisor, which every kubelet has: k8s.io/kubernetes, pkg/kubelet/server, /metrics/cadvisor."""
DCGM_LABELS = frozenset({"Hostname", "gpu", "namespace", "pod", "exported_namespace", "exported_pod"})
DCGM = dict.fromkeys(
    (
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_GPU_TEMP",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_XID_ERRORS",
    ),
    DCGM_LABELS,
)
"""Of NVIDIA/dcgm-exporter, etc/default-counters.csv. By hand: nothing here brings it along."""
PROCESS = {"process_resident_memory_bytes": REPLICA_TARGET}
"""Of prometheus_client's ProcessCollector, which a replica's page includes (vLLM's registry is its default one)."""
Labels = frozenset[str]
Metrics = dict[str, Labels]
Made = dict[str, tuple[str, str, Labels]]
"""Kind, what it counts in its maker's words, and its own labels; a counter's name ends in `_total`."""


def known() -> Metrics:
    """Every sample's name, with the labels it can have once it is scraped."""
    everything: Metrics = {}
    for part in (
        _gateway(),
        _tier(),
        _samples(vllm_metrics(), REPLICA_TARGET),
        _samples(ray_metrics(), RAY_TARGET),
        KUBELET,
        DCGM,
        PROCESS,
    ):
        both = everything.keys() & part.keys()
        assert not both, both
        everything |= part
    return everything | dict.fromkeys(SCRAPES, GATEWAY_TARGET | RAY_TARGET | REPLICA_TARGET)


def _counter(name: str) -> str:
    return name.removesuffix("_total") + "_total"


def _histogram(name: str, labels: Labels) -> Metrics:
    return {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}


def _gateway() -> Metrics:
    found: Metrics = {}
    for spec in metric_specs.COUNTERS:
        found[_counter(spec.name)] = GATEWAY_TARGET | set(spec.labels)
    for gauge in metric_specs.GAUGES:
        found[gauge.name] = GATEWAY_TARGET | set(gauge.labels)
    for histogram in metric_specs.HISTOGRAMS:
        found |= _histogram(histogram.name, GATEWAY_TARGET | set(histogram.labels))
    # It has observations below zero, so that the client library gives it neither.
    for part in ("sum", "count"):
        del found[f"{metric_specs.CACHED_ERROR.name}_{part}"]
    return found


def _tier() -> Metrics:
    found = {_counter(name): REPLICA_TARGET | OF_ENGINE | set(labels) for name, (_, labels) in stats.COUNTERS.items()}
    found |= dict.fromkeys(stats.GAUGES, REPLICA_TARGET | OF_ENGINE)
    tree = _tree(_root("cluster") / "engine" / "tier" / "exposition.py")
    prefix = next(
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "PREFIX"
        and isinstance(node.value, ast.Constant)
    )
    for call in _calls(tree):
        kind = ast.unparse(call.func)
        if kind not in {"CounterMetricFamily", "GaugeMetricFamily"} or not isinstance(call.args[0], ast.JoinedStr):
            continue
        name = ast.unparse(call.args[0]).strip("f'\"").replace("{PREFIX}", prefix)
        labels = REPLICA_TARGET | set(_texts(_keyword(call, "labels")))
        if name.endswith("{name}"):  # the measured ones, named in a table
            for row in _measured(tree):
                found[prefix + row] = labels
        else:
            found[_counter(name) if kind.startswith("Counter") else name] = labels
    return found


def _measured(tree: ast.Module) -> list[str]:
    function = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_measured")
    rows = next(
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "rows"
    )
    assert isinstance(rows, ast.Tuple)
    return [ast.literal_eval(row.elts[0]) for row in rows.elts if isinstance(row, ast.Tuple)]


def vllm_metrics() -> Made:
    """vLLM's own, as its source makes them."""
    tree = _tree(_root("vllm") / "v1" / "metrics" / "loggers.py")
    common = next(
        set(_texts(node.value))
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "labelnames"
        and isinstance(node.value, ast.List)
    )
    assert common == OF_ENGINE
    found: Made = {}
    for call in _calls(tree):
        kind = re.fullmatch(r"self\._(counter|gauge|histogram)_cls", ast.unparse(call.func))
        name = _keyword(call, "name")
        if kind is None or not isinstance(name, ast.Constant):
            continue
        said = ast.unparse(_keyword(call, "labelnames") or ast.List(elts=[]))
        labels = frozenset((common if "labelnames" in said else set()) | set(re.findall(r"'(\w+)'", said)))
        told = _keyword(call, "documentation")
        text = str(told.value) if isinstance(told, ast.Constant) else ""
        found[_counter(name.value) if kind[1] == "counter" else name.value] = (kind[1], text, labels)
    return found


def ray_metrics() -> Made:
    """Those of Ray and Ray Serve that are made in Python, and what Ray's own dashboards know of the rest."""
    root = _root("ray")
    found: Made = {}
    for path in sorted((root / "serve" / "_private").glob("*.py")):
        found |= _of_serve(_tree(path))
    tags = _tag_keys(_tree(root / "dashboard" / "consts.py"))
    for call in _calls(_tree(root / "dashboard" / "modules" / "reporter" / "reporter_agent.py")):
        named = ast.unparse(call.args[-1]) if call.args else ""
        if ast.unparse(call.func) == "Gauge" and named in tags:
            found["ray_" + ast.literal_eval(call.args[0])] = ("gauge", ast.literal_eval(call.args[1]), tags[named])
    # What Ray's C++ makes is known from the dashboards that Ray brings along.
    for path in sorted((root / "dashboard" / "modules" / "metrics" / "dashboards").glob("*_panels.py")):
        for name, inside in re.findall(r"\b(ray_resources)\{+([^{}]*)", path.read_text(encoding="utf-8")):
            labels = frozenset(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))
            _, text, before = found.get(name, ("gauge", "Logical resources", RAYS_OWN))
            found[name] = ("gauge", text, before | labels)
    return found


def _samples(made: Made, target: Labels) -> Metrics:
    """The names that Prometheus keeps: a histogram has three."""
    found: Metrics = {}
    for name, (kind, _, labels) in made.items():
        found |= _histogram(name, target | labels) if kind == "histogram" else {name: target | labels}
    return found


def _tag_keys(tree: ast.Module) -> dict[str, Labels]:
    """The agent's constants: lists of names, and sums of such lists."""
    found: dict[str, Labels] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and (name := ast.unparse(node.targets[0])).endswith("TAG_KEYS"):
            parts = [
                frozenset(_texts(part)) | found.get(ast.unparse(part), frozenset()) for part in ast.walk(node.value)
            ]
            found[name] = frozenset().union(*parts)
    return found


def _of_serve(tree: ast.Module) -> Made:
    tuples = {
        ast.unparse(node.targets[0]): node.value.orelse if isinstance(node.value, ast.IfExp) else node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.IfExp, ast.Tuple))
    }
    found: Made = {}
    for call in _calls(tree):
        kind = re.fullmatch(r"(?:ray_)?metrics\.(Counter|Gauge|Histogram)", ast.unparse(call.func))
        if kind is None or not call.args or not isinstance(call.args[0], ast.Constant):
            continue
        tags = _keyword(call, "tag_keys")
        labels = RAYS_OWN | set(_texts(tuples.get(ast.unparse(tags), tags) if tags else None))
        told = _keyword(call, "description")
        text = str(told.value) if isinstance(told, ast.Constant) else ""
        name = f"ray_{call.args[0].value}"
        found[_counter(name) if kind[1] == "Counter" else name] = (kind[1].lower(), text, labels)
    return found


def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _texts(node: ast.AST | None) -> list[str]:
    """The string constants directly in a list or tuple."""
    if not isinstance(node, (ast.List, ast.Tuple)):
        return []
    return [item.value for item in node.elts if isinstance(item, ast.Constant) and isinstance(item.value, str)]
