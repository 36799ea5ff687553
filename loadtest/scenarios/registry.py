"""All scenarios, by name.

What must not live here: what is in them.
"""

from __future__ import annotations

from difflib import get_close_matches

from cluster.core.errors import SetupError
from loadtest.scenarios.agents import AGENTS
from loadtest.scenarios.article import ARTICLE_CHAT, ARTICLE_SUMMARY, ARTICLE_WRITE
from loadtest.scenarios.chat import SHORT_CHAT
from loadtest.scenarios.code_review import CODE_REVIEW
from loadtest.scenarios.document import DOCUMENT
from loadtest.scenarios.idle_burst import IDLE_BURST
from loadtest.scenarios.mixed import MIXED
from loadtest.scenarios.ramp import RAMP
from loadtest.scenarios.scenario import Scenario
from loadtest.scenarios.soak import SOAK
from loadtest.scenarios.tenants import TENANTS
from loadtest.scenarios.trace import TRACE

_ALL = (
    SHORT_CHAT, DOCUMENT, AGENTS, CODE_REVIEW, MIXED, TENANTS, RAMP, IDLE_BURST, SOAK,
    ARTICLE_CHAT, ARTICLE_SUMMARY, ARTICLE_WRITE, TRACE,
)  # fmt: skip


def list_scenarios() -> tuple[Scenario, ...]:
    """In the order in which they are listed."""
    return _ALL


def find_scenario(name: str) -> Scenario:
    """The scenario of this name.

    Raises:
        SetupError: there is none.
    """
    known = {scenario.name: scenario for scenario in _ALL}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    raise SetupError(f"no scenario {name!r}", remedy)
