"""Render the chart and say what is wrong: `python -m tests.kubernetes.check [--release NAME] VALUES.yaml …`.

For whoever writes templates; the tests ask for the same and more. Ends with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.kubernetes import schemas
from tests.kubernetes.operator_rules import violations
from tests.kubernetes.ray_service import RayService
from tests.kubernetes.render import CHART, KUBE_VERSION, Renderer, RenderError
from tests.kubernetes.tools import HelmMajor, Tool, ToolError, tool


def findings(helms: dict[HelmMajor, Tool], scratch: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """What is wrong, one line each."""
    render = Renderer(helms=helms, scratch=scratch, chart=arguments.chart.resolve())
    known = schemas.load()
    values = [path.resolve() for path in arguments.values]
    for major, helm in helms.items():
        try:
            helm.run("lint", "--strict", str(render.chart), *render.files(*values))
            rendered = render(*values, release=arguments.release, helm=major, kube_version=arguments.kube_version)
        except (ToolError, RenderError, yaml.YAMLError, AssertionError) as error:
            yield f"helm {major}: {error}"
            continue
        if arguments.show:
            sys.stdout.write(rendered.text)
        yield from known.all_errors(rendered)
        for one in rendered.by_kind("RayService"):
            yield from violations(RayService.of(one))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("values", nargs="*", type=Path, help="values files, later ones win")
    parser.add_argument("--chart", type=Path, default=CHART)
    parser.add_argument("--release", default="longreach")
    parser.add_argument("--kube-version", default=KUBE_VERSION)
    parser.add_argument("--show", action="store_true", help="print what was rendered")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        homes = {major: Path(name) / f"helm{major}" for major in ("3", "4")}
        for home in homes.values():
            home.mkdir()
        helms = {major: tool("helm", home=home, major=major) for major, home in homes.items()}
        found = list(dict.fromkeys(findings(helms, Path(name), arguments)))
    sys.stdout.write("".join(f"{line}\n" for line in found) + f"{len(found)} findings\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
