"""Every Pod of the chart: restricted, with an image and resources, probed where it answers, stopped after its drain."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from cluster.cli.app import app
from services.rest.admin import OPEN_PATHS
from tests.kubernetes.cases import ALL, EDGES, EVERYTHING, LEAST, Case, merged
from tests.kubernetes.pods import CONFIG_FOLDER, PodView, pods
from tests.kubernetes.ray_service import Body, RayService
from tests.kubernetes.render import Manifest, Rendered, Renderer

STOP_MARGIN_S = 10
"""Between the end of the longest preStop or drain and the kill."""
RAY_PORTS = {"/api/gcs_healthz": 8265, "/api/local_raylet_healthz": 52365}
"""Which of Ray's servers has which path: the dashboard, and the agent on every node."""
RAY_SOURCES = ("ray/dashboard/modules/reporter/reporter_head.py", "ray/dashboard/modules/reporter/healthz_agent.py")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

each_case = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)


def each_container(rendered: Rendered) -> Iterator[tuple[PodView, Body]]:
    for pod in pods(rendered):
        for container in pod.containers:
            yield pod, container


@each_case
def test_pods_keep_the_restricted_standard(render: Renderer, case: Case) -> None:
    for pod, container in each_container(case.render(render)):
        where = f"{pod} {container['name']}"
        of_pod, own = pod.spec["securityContext"], container["securityContext"]
        assert of_pod["runAsNonRoot"] is True, where
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert of_pod.get("runAsUser") != 0, where
        _restricted(own, where)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys(), where
        assert not [port for port in container.get("ports") or [] if "hostPort" in port], where


def _restricted(context: Body, where: str) -> None:
    assert context["allowPrivilegeEscalation"] is False, where
    assert context["capabilities"] == {"drop": ["ALL"]}, where
    assert context["readOnlyRootFilesystem"] is True, where
    assert context.get("runAsNonRoot", True) is True, where
    assert context.get("privileged", False) is False, where


@each_case
def test_the_autoscaler_is_restricted_too(render: Renderer, case: Case) -> None:
    """KubeRay adds its container to the head's Pod, with what autoscalerOptions say and nothing else."""
    for one in case.render(render).by_kind("RayService"):
        service = RayService.of(one)
        if service.autoscaling:
            _restricted(service.autoscaler["securityContext"], str(one))
            assert service.autoscaler["resources"]["requests"].keys() >= {"cpu", "memory"}


@each_case
def test_only_an_autoscaler_has_a_token(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    scaled = {one.name for one in rendered.by_kind("RayService") if RayService.of(one).autoscaling}
    for pod in pods(rendered):
        wanted = pod.role == "ray-head" and pod.owner.name in scaled
        assert pod.spec["automountServiceAccountToken"] is wanted, str(pod)
    for account in rendered.by_kind("ServiceAccount"):
        assert account.body["automountServiceAccountToken"] is False, str(account)


@each_case
def test_nothing_writes_where_it_cannot(render: Renderer, case: Case) -> None:
    """The root is read-only: whatever is told to write somewhere has a volume there."""
    for pod, container in each_container(case.render(render)):
        mounts = [mount["mountPath"] for mount in container.get("volumeMounts") or [] if not mount.get("readOnly")]
        assert "/tmp" in mounts, f"{pod} {container['name']}"
        for variable in container.get("env") or []:
            if variable["name"] in {"HOME", "LONGREACH_STATE", "TMPDIR"}:
                inside = [mount for mount in mounts if Path(variable["value"]).is_relative_to(mount)]
                assert inside, f"{pod} {container['name']} {variable}"


@each_case
def test_images_are_pinned(render: Renderer, case: Case) -> None:
    for pod, container in each_container(case.render(render)):
        image = container["image"]
        tag = re.fullmatch(r"[^@\s]+?(?::([\w][\w.-]*))?(@sha256:[0-9a-f]{64})?", image)
        assert tag is not None, f"{pod}: {image}"
        assert tag[2] or tag[1], f"{pod}: {image} has neither tag nor digest"
        assert tag[1] != "latest", f"{pod}: {image}"


@each_case
def test_resources_are_said(render: Renderer, case: Case) -> None:
    for pod, container in each_container(case.render(render)):
        resources = container["resources"]
        assert resources["requests"].keys() >= {"cpu", "memory"}, f"{pod} {container['name']}"
        assert "memory" in resources["limits"], f"{pod} {container['name']}"


@each_case
def test_ports_have_their_own_names_and_numbers(render: Renderer, case: Case) -> None:
    for pod in pods(case.render(render)):
        ports = [port for one in pod.spec["containers"] for port in one.get("ports") or []]
        assert len({port["name"] for port in ports}) == len(ports), str(pod)
        assert len({port["containerPort"] for port in ports}) == len(ports), str(pod)


@each_case
def test_probes_ask_what_answers(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    for pod in pods(rendered):
        if pod.owner.kind in {"Job", "Pod"}:
            continue
        for name in PROBES:
            probe = pod.main.get(name)
            assert probe is not None, f"{pod} has no {name}"
            assert probe.get("timeoutSeconds", 1) > 1, f"{pod} {name}: a second is short on a busy node"
            _answers(rendered, pod, probe)


def _answers(rendered: Rendered, pod: PodView, probe: Body) -> None:
    if "exec" in probe:
        script = probe["exec"]["command"][-1]
        assert _script(rendered, pod, script), f"{pod} runs {script}, which no volume has"
        return
    asked = probe["httpGet"]
    port = pod.port(asked["port"], pod.main)
    assert port is not None, f"{pod} declares no port {asked['port']}"
    if pod.component == "gateway":
        assert (port, asked["path"].partition("?")[0] in OPEN_PATHS) == (8081, True), f"{pod}: {asked}"
        assert asked.get("scheme", "HTTP") == "HTTP", "the admin listener has no TLS"
    else:
        assert RAY_PORTS[asked["path"]] == port, f"{pod}: {asked}"


def _script(rendered: Rendered, pod: PodView, path: str) -> bool:
    for mount in pod.main["volumeMounts"]:
        if Path(path).parent == Path(mount["mountPath"]):
            name = pod.volume(mount["name"])["configMap"]["name"]
            return Path(path).name in rendered.one("ConfigMap", name=name).body["data"]
    return False


def test_ray_serves_the_paths_that_its_probes_ask() -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    site = Path(spec.submodule_search_locations[0]).parent
    for path, source in zip(RAY_PORTS, RAY_SOURCES, strict=True):
        assert f'"{path}"' in (site / source).read_text(encoding="utf-8")


def test_a_gateway_is_ready_by_its_own_word(render: Renderer) -> None:
    (gateway,) = (pod for pod in pods(render(LEAST)) if pod.component == "gateway")
    assert gateway.main["readinessProbe"]["httpGet"]["path"] == "/ready?replicas=0"
    assert gateway.main["livenessProbe"]["httpGet"]["path"] == "/health"


@each_case
def test_grace_covers_the_drain(render: Renderer, case: Case) -> None:
    """A stopped gateway drains after preStop, a Ray node in its preStop; each for as long as its configuration says."""
    rendered = case.render(render)
    found = [pod for pod in pods(rendered) if pod.component in {"gateway", "ray-head", "ray-worker"}]
    for pod in found:
        grace_s = pod.spec["terminationGracePeriodSeconds"]
        command = pod.main["lifecycle"]["preStop"]["exec"]["command"]
        before_s = float(command[-1])
        if pod.component == "gateway":
            drain_s = _configuration(rendered)["gateway"]["limits"]["drain_s"]
            assert grace_s >= before_s + drain_s + STOP_MARGIN_S, str(pod)
        else:
            assert command[-2] == "--limit-s", str(pod)
            assert before_s >= longest_drain_s(pod), str(pod)
            assert grace_s >= before_s + STOP_MARGIN_S, str(pod)


@each_case
def test_a_head_outlives_its_workers(render: Renderer, case: Case) -> None:
    found = pods(case.render(render))
    for head in (pod for pod in found if pod.role == "ray-head"):
        for worker in (pod for pod in found if pod.component == "ray-worker" and pod.owner == head.owner):
            graces = [pod.spec["terminationGracePeriodSeconds"] for pod in (head, worker)]
            assert graces[0] > graces[1], f"{head}: {graces}"


@pytest.mark.parametrize("request_s", [60, 600.5, 7200])
def test_drains_follow_from_the_longest_stream(render: Renderer, request_s: float) -> None:
    values = merged(LEAST, {"config": {"gateway": {"limits": {"request_s": request_s}}}})
    rendered = render(values)
    assert _configuration(rendered)["gateway"]["limits"]["drain_s"] >= request_s
    for pod in pods(rendered):
        if pod.component in {"gateway", "ray-head", "ray-worker"}:
            assert pod.spec["terminationGracePeriodSeconds"] > request_s, str(pod)
        if pod.component == "ray-worker":
            assert longest_drain_s(pod) >= request_s


def longest_drain_s(pod: PodView) -> float:
    """Of the pools on a Ray node, from what the node's own RayService submits."""
    applications = yaml.safe_load(pod.owner.spec["serveConfigV2"])["applications"]
    drains = []
    for application in applications:
        (section,) = application["args"]["config"]["pools"]
        if pod.group is None or section["worker_group"] == pod.group["groupName"]:
            drains.append(float(section["engine"]["drain_s"]))
    return max(drains)


def _configuration(rendered: Rendered) -> dict[str, Any]:
    (gateway,) = rendered.by_kind("Deployment", component="gateway")
    name = _mounted_config(gateway)
    found: dict[str, Any] = yaml.safe_load(rendered.one("ConfigMap", name=name).body["data"]["config.yaml"])
    return found


def _mounted_config(deployment: Manifest) -> str:
    spec = deployment.spec["template"]["spec"]
    (mount,) = (one for one in spec["containers"][0]["volumeMounts"] if one["mountPath"] == CONFIG_FOLDER)
    (volume,) = (one for one in spec["volumes"] if one["name"] == mount["name"])
    return str(volume["configMap"]["name"])


@pytest.mark.parametrize(
    "case", [case for case in EDGES if case.values[0] in (LEAST, EVERYTHING)], ids=lambda c: c.name
)
def test_commands_are_there(render: Renderer, case: Case) -> None:
    """What a container or a hook runs is a command and options of this very code."""
    commands = []
    for pod, container in each_container(case.render(render)):
        commands += [(pod, container["command"])] if container.get("command") else []
        hook = (container.get("lifecycle") or {}).get("preStop")
        commands += [(pod, hook["exec"]["command"])] if hook else []
    assert commands
    for pod, (program, *arguments) in commands:
        if program == "longreach":
            _accepts(typer.main.get_command(app), arguments, str(pod))
        elif program == "python":
            assert arguments[0] == "-m", str(pod)
            assert importlib.util.find_spec(arguments[1]) is not None, f"{pod} runs {arguments[1]}"
        else:
            assert program in {"sh", "bash", "sleep"}, f"{pod} runs {program}"


def _accepts(command: Any, arguments: list[str], where: str) -> None:
    """Typer's own copy of click has groups with `commands`, and commands without."""
    rest = list(arguments)
    while hasattr(command, "commands"):
        name = rest.pop(0)
        assert name in command.commands, f"{where}: there is no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {one.partition("=")[0] for one in rest if one.startswith("--")}
    assert given <= known, f"{where}: {command.name} knows no {given - known}"
