"""What load tests send: one module for each scenario, by name.

What must not live here: when requests are due and how they are sent (loadtest/client), what came of them
(loadtest/report).
"""

from loadtest.scenarios.registry import find_scenario, list_scenarios
from loadtest.scenarios.scenario import ArrivalKind, Arrivals, Context, Options, Scenario

__all__ = ["ArrivalKind", "Arrivals", "Context", "Options", "Scenario", "find_scenario", "list_scenarios"]
