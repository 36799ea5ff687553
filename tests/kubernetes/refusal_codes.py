"""Which codes the gateway's refusals have, read from where they are written.

They are labels of `longreach_refused_total`. What must not live here: what they mean.
"""

from __future__ import annotations

import ast
import inspect
from itertools import product

from cluster.core.quota import LimitKind
from services.api import refusals


def refusal_codes() -> frozenset[str]:
    """Every `code=` of services/api/refusals.py."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(refusals))):
        if isinstance(node, ast.keyword) and node.arg == "code":
            found |= _texts(node.value)
    return frozenset(found)


def _texts(value: ast.expr) -> set[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return {value.value}
    if isinstance(value, ast.IfExp):
        return _texts(value.body) | _texts(value.orelse)
    if isinstance(value, ast.JoinedStr):
        # Only a quota's: `requests` or `tokens`, and what follows.
        parts = [
            {"requests", "tokens"} if isinstance(part, ast.FormattedValue) else _texts(part) for part in value.values
        ]
        assert len(LimitKind) == 2
        return {"".join(texts) for texts in product(*parts)}
    return set()
