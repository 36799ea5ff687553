"""The reference pages name every key of the configuration, with its default, and every command, with its options."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperGroup

from cluster.cli.app import app
from cluster.config import Config, parse_config

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "docs" / "configuration.md"
CLI = ROOT / "docs" / "cli.md"
ROW = re.compile(r"^\| `(?P<key>[a-z0-9_.\[\]]+)` \| (?P<default>[^|]+) \|")
LINK = re.compile(r"\]\((?!https?://|#)(?P<path>[^)#\s]+)(?:#[^)]*)?\)")


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key below `model` by its path, with its default as the page writes it; sections are not keys."""
    for name, field in model.model_fields.items():
        section, is_list = _section(field.annotation)
        if section is None:
            yield prefix + name, default_of(field)
        elif is_list:
            yield prefix + name, default_of(field)
            yield from keys(section, f"{prefix}{name}[].")
        else:
            yield from keys(section, f"{prefix}{name}.")


def default_of(field: FieldInfo) -> str:
    """A default as the page writes it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    return "empty" if value in ([], {}) else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate, typing.get_origin(annotation) is list
    return None, False


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by what one types for it."""
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from commands(child, f"{path} {name}")
    else:
        yield path, command


def section_of(page: str, heading: str) -> str:
    """The text under a heading of any level, up to the next heading."""
    found = re.search(rf"^#+ `?{re.escape(heading)}`?$(?P<text>.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    return found["text"] if found else ""


def test_every_configuration_key_is_described_with_its_default() -> None:
    rows = {
        row["key"]: row["default"].strip()
        for line in CONFIGURATION.read_text(encoding="utf-8").splitlines()
        if (row := ROW.match(line))
    }
    assert rows == dict(keys(Config))


def test_every_command_is_described_with_its_options() -> None:
    page = CLI.read_text(encoding="utf-8")
    missing: list[str] = []
    for name, command in commands(typer.main.get_command(app), "longreach"):
        text = section_of(page, name)
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        missing += [name] if not text else [f"{name} {option}" for option in sorted(options) if option not in text]
    assert missing == []


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [CONFIGURATION, ROOT / "README.md"], ids=lambda page: page.name)
def test_example_configurations_have_no_mistakes(page: Path) -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        parse_config(example, origin=page.name)
