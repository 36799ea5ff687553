"""`longreach loadtest list`: which loads there are, and what can be set.

What must not live here: the scenarios (loadtest/scenarios).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.cli.target import JsonOption, print_json

if TYPE_CHECKING:
    from loadtest.scenarios import Scenario


def scenarios(json: JsonOption = False) -> None:
    """List the scenarios with what can be set."""
    from rich.console import Console
    from rich.markup import escape

    from loadtest.scenarios import list_scenarios
    from loadtest.scenarios.options import shown

    found = list_scenarios()
    if json:
        print_json([_row(one) for one in found])
        return
    console = Console()
    for one in found:
        console.print(f"[bold]{escape(one.name)}[/]  {escape(one.sentence)}", highlight=False)
        for spec in one.options:
            line = f"    --set {spec.name}={shown(spec.default)}  {spec.about} ({spec.bounds})"
            console.print(line, style="dim", highlight=False, markup=False)


def _row(scenario: Scenario) -> dict[str, Any]:
    usual = scenario.arrivals
    return {
        "name": scenario.name,
        "about": scenario.sentence,
        "arrivals": {"kind": str(usual.kind), "rate_per_s": usual.rate_per_s, "duration_s": usual.duration_s or None},
        "options": [
            {"name": spec.name, "default": spec.default, "about": spec.about, "takes": spec.bounds}
            for spec in scenario.options
        ],
    }
