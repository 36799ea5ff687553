from __future__ import annotations

from cluster.environment import CREDENTIAL_VARIABLE, read_environment


def test_no_secret_is_in_what_a_traceback_or_a_log_would_print() -> None:
    environment = read_environment({CREDENTIAL_VARIABLE: "hunter2-credential", "ENGINE_KEY": "hunter2-key"})
    assert environment.secret("ENGINE_KEY") == "hunter2-key"
    assert "hunter2" not in repr(environment)
