"""A start in words."""

from __future__ import annotations

from cluster.core.start import StartStage, start_words


def test_words() -> None:
    assert start_words({StartStage.PROCESS: 5.14, "imports": 14.0}) == "19.1 s: process 5.1, imports 14.0"


def test_no_stages_no_words() -> None:
    assert start_words({}) == ""


def test_a_stage_of_a_newer_version_is_shown() -> None:
    assert start_words({"new": 1.0}) == "1.0 s: new 1.0"
