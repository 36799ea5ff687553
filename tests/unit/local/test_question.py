"""The lines that `up` ends with."""

from __future__ import annotations

from cluster.local.question import next_steps


def commands(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("  longreach ")]


def test_lines_to_copy_name_the_cluster_that_was_started() -> None:
    plain = commands(next_steps("http://127.0.0.1:8080", "demo", program="longreach"))
    assert [line.split("  ")[0] for line in plain] == [
        f"longreach {name}" for name in ("chat", "demo", "status", "down")
    ]
    named = commands(next_steps("http://127.0.0.1:8080", "demo", program="longreach", config="my own.yaml"))
    assert all("--config 'my own.yaml' " in line for line in named)
    assert named[-1].endswith("  stop everything")
    assert len({line.index(line.split("  ")[-1].strip()) for line in named}) == 1, "one column"
