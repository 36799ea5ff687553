"""Rules that no single module can keep: who imports what, who reads the environment, what is committed."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cluster", "services", "loadtest")
SOURCES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "generated" not in path.parts
)
LINES_MAX = 350

READS_ENVIRONMENT = {
    "cluster/environment.py": "the one place",
    "cluster/bootstrap/__main__.py": "runs before anything is installed; pip's arguments and the cache's place",
    "cluster/bootstrap/pip_progress.py": "hands its own environment on to pip",
    "cluster/control/apply.py": "RAY_ADDRESS: Ray's own variable, in a driver of its own process",
    "cluster/engine/orphans.py": "marks its own process, for the engine's processes to inherit",
    "cluster/engine/warm/child.py": "takes over the environment of who asked for it, as a spawned process would",
    "cluster/engine/warm/context.py": "hands its own environment on to the processes that it starts",
    "cluster/engine/replica.py": "sets what vLLM reads at import; LONGREACH_RUN_DIR comes through Ray's workers",
    "loadtest/chaos/supervised.py": "another process's, to start it again with the same",
}
IMPORTS_VLLM = {
    "cluster/engine/checked.py",
    "cluster/engine/rehearsal.py",
    "cluster/engine/replica.py",
    "cluster/engine/resume/engine.py",
    "cluster/engine/resume/forced.py",
    "cluster/engine/resume/going_on.py",
    "cluster/engine/tier/link.py",
    "cluster/engine/tier/manager.py",
    "cluster/engine/tier/spec.py",
    "cluster/engine/vllm_engine.py",
}
"""The engine; the replica, which imports it ahead in a thread; the KV tier, half of which runs inside vLLM."""

FORBIDDEN_TEXT = re.compile(
    r"/root/|/opt/wheels|/work/"
    r"|--(?:extra-)?index-url[ =]https?:|--find-links[ =]https?:|file:///"
    r"|pypi\.org/simple|files\.pythonhosted\.org|registry\.npmjs\.org|download\.pytorch\.org"
)
"""Addresses of registries and paths of one machine: they would tie a checkout to where it was made."""
MAY_SAY_SO = {"tests/architecture/test_imports.py"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that `path` imports, wherever in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno}: import by the full name"
            yield node.module or ""


def reads_environment(path: Path) -> bool:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb", "putenv"}:
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            return any(alias.name in {"environ", "getenv"} for alias in node.names)
    return False


@pytest.fixture(scope="module")
def checkout() -> list[Path]:
    """Every file of the checkout that is, or is about to be, committed."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is committed is unknown")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return sorted(path for name in set(listed) if name and (path := ROOT / name).is_file())


def test_the_contracts_of_import_linter_are_kept() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


def test_core_imports_the_standard_library_and_itself() -> None:
    allowed = sys.stdlib_module_names
    wrong = [
        f"{relative(path)} imports {name}"
        for path in SOURCES
        if relative(path).startswith("cluster/core/")
        for name in imported(path)
        if name.partition(".")[0] not in allowed and not f"{name}.".startswith("cluster.core.")
    ]
    assert wrong == []


def test_core_does_no_input_or_output() -> None:
    doors = {"os", "io", "socket", "subprocess", "threading", "asyncio", "time", "pathlib", "logging", "secrets"}
    wrong = [
        f"{relative(path)} imports {name}"
        for path in SOURCES
        if relative(path).startswith("cluster/core/")
        for name in imported(path)
        if name.partition(".")[0] in doors
    ]
    assert wrong == []


def test_the_environment_is_read_in_one_place() -> None:
    readers = {relative(path) for path in SOURCES if reads_environment(path)}
    assert readers - READS_ENVIRONMENT.keys() == set(), "take it from cluster/environment.py, or justify it here"
    assert READS_ENVIRONMENT.keys() - readers == set(), "no longer true: take it off this list"


def test_vllm_is_imported_in_one_place() -> None:
    importers = {relative(path) for path in SOURCES if any(name.partition(".")[0] == "vllm" for name in imported(path))}
    assert importers == IMPORTS_VLLM


def test_every_module_says_what_lives_in_it() -> None:
    silent = [relative(path) for path in SOURCES if not (ast.get_docstring(tree(path)) or "").strip()]
    assert silent == []


def test_files_can_be_read_in_one_sitting(checkout: list[Path]) -> None:
    long = {
        relative(path): lines
        for path in checkout
        if path.suffix == ".py" and "generated" not in path.parts
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert long == {}, f"over {LINES_MAX} lines: find the second job in each and give it a file of its own"


def test_nothing_committed_names_a_registry_or_this_machine(checkout: list[Path]) -> None:
    found = []
    for path in checkout:
        if relative(path) in MAY_SAY_SO:
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # not text
        found += [
            f"{relative(path)}:{number}: {hit.group()}"
            for number, line in enumerate(lines, 1)
            if (hit := FORBIDDEN_TEXT.search(line))
        ]
    assert found == []
