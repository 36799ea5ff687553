"""From a configuration file to its schema, or to every mistake in it with its line and field.

What must not live here: the schemas (schema.py, keys.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import ValidationError
from yaml.constructor import SafeConstructor

from cluster.config.base import Section
from cluster.config.schema import Config
from cluster.core.errors import ConfigError, ConfigMistake

FileSection = TypeVar("FileSection", bound=Section)
# Ten times as fast where libyaml is there, which a file of thousands of keys needs.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Constructor(SafeConstructor):
    """PyYAML's own, whatever others did to it: lm-format-enforcer, which vLLM imports, makes dates strings for all."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        **SafeConstructor.yaml_constructors,
        "tag:yaml.org,2002:timestamp": SafeConstructor.construct_yaml_timestamp,
    }


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or has mistakes; it lists every mistake with its line.
    """
    return parse_config(read_text(path), origin=str(path))


def parse_config(text: str, *, origin: str = "<config>") -> Config:
    """Check the text of a configuration file; `origin` names it in errors.

    Raises:
        ConfigError: as `load_config`.
    """
    return parse_section(text, Config, origin=origin, expects="the keys models and pools")


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), (ConfigMistake(line=0, field="", problem=f"cannot be read: {error}"),)) from error


def parse_section(
    text: str, section: type[FileSection], *, origin: str, expects: str, is_secret: bool = False
) -> FileSection:
    """Check the text of a file against the schema of its whole content.

    Args:
        text: YAML.
        section: the schema.
        origin: names the file in errors.
        expects: what a file that is no mapping should have, as words.
        is_secret: values given are not repeated in errors.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
        _refuse_duplicate_keys(root, origin)
        data = None if root is None else _Constructor().construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 0
        problem = str(getattr(error, "problem", None) or error)
        raise ConfigError(origin, (ConfigMistake(line=line, field="", problem=f"not YAML: {problem}"),)) from error
    if not isinstance(data, dict):
        mistake = ConfigMistake(line=1, field="", problem=f"must be a mapping with {expects}")
        raise ConfigError(origin, (mistake,))
    try:
        return section.model_validate(data)
    except ValidationError as error:
        mistakes = tuple(
            ConfigMistake(
                line=_line_of(root, tuple(item["loc"])),
                field=_dotted(tuple(item["loc"])),
                problem=_problem(item, is_secret=is_secret),
            )
            for item in error.errors()
        )
        raise ConfigError(origin, mistakes) from error


def _refuse_duplicate_keys(node: yaml.Node | None, origin: str) -> None:
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in current.value:
                if key.value in seen:
                    mistake = ConfigMistake(line=key.start_mark.line + 1, field=key.value, problem="is given twice")
                    raise ConfigError(origin, (mistake,))
                seen.add(key.value)
                pending.append(value)
        elif isinstance(current, yaml.SequenceNode):
            pending.extend(current.value)


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The 1-based line of the deepest part of `location` that the file has."""
    line = 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
            if found is None:
                return line
            line = found[0].start_mark.line + 1
            node = found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _may_hold_a_login(given: object) -> bool:
    """Whether it looks like an address with a password in it, which is a mistake that must not get into a log."""
    return isinstance(given, str) and "://" in given and ("@" in given or "password" in given)


def _problem(item: Any, *, is_secret: bool) -> str:
    if item["type"] == "extra_forbidden":
        return "is not a known key"
    if item["type"] == "missing":
        return "is required"
    given = item.get("input")
    is_shown = isinstance(given, (str, int, float, bool)) and not is_secret and not _may_hold_a_login(given)
    shown = f" (given: {given!r})" if is_shown else ""
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{message}{shown}"
