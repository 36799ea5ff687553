"""buf, the linter that most projects with .proto files use, finds nothing in ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.grpc.generate import PROTO
from tests.node_project import NodeProject, node_project

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> NodeProject:
    return node_project(tmp_path_factory.mktemp("buf"))


async def test_buf_finds_nothing(project: NodeProject) -> None:
    await project.run("buf", "lint", str(PROTO))


async def test_buf_would_write_the_files_no_differently(project: NodeProject) -> None:
    await project.run("buf", "format", "--diff", "--exit-code", str(PROTO))


async def test_buf_reads_our_rules(project: NodeProject, tmp_path: Path) -> None:
    (tmp_path / "buf.yaml").write_bytes((PROTO / "buf.yaml").read_bytes())
    (tmp_path / "wrong.proto").write_text('syntax = "proto3";\n\npackage wrong;\n', encoding="utf-8")
    with pytest.raises(AssertionError, match="should be suffixed with a correctly formed version"):
        await project.run("buf", "lint", str(tmp_path))
