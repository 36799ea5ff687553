"""TypeScript declarations of Kubernetes objects as JSON schemas that refuse unknown fields.

For the @kubernetes-models packages, whose declarations a program writes from the Go types, one interface a file. What
must not live here: TypeScript beyond what that program writes, which is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLAIN: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "number": {"type": "integer"},  # of the kinds used here, no field is a fraction
    "any": {},
    "unknown": {},
}
TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|(-?\d+)|(\[key: string\])|([A-Za-z_]\w*)|([{}<>:;?|,\[\]]))')
TYPE_META = "TypeMeta"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What one interface says: its own fields and those of whom it extends."""

    parents: tuple[str, ...]
    properties: dict[str, dict[str, Any]]
    required: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Declarations:
    """What was read of one folder, by their long name, such as IoK8sSigsGatewayApiApisV1HTTPRoute."""

    interfaces: dict[str, Interface] = field(default_factory=dict)
    aliases: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_kind: dict[str, str] = field(default_factory=dict)

    def schemas(self) -> dict[str, dict[str, Any]]:
        """JSON schemas for `$defs`; names that are not of this folder are those of Kubernetes itself."""
        found = dict(self.aliases)
        for name in self.interfaces:
            properties, required = self._fields(name)
            found[name] = {
                "type": "object",
                "properties": properties,
                "required": sorted(required),
                "additionalProperties": False,
            }
        return found

    def _fields(self, name: str) -> tuple[dict[str, Any], set[str]]:
        interface = self.interfaces[name]
        properties: dict[str, Any] = {}
        required: set[str] = set()
        for parent in interface.parents:
            more, needed = self._fields(parent)
            properties |= more
            required |= needed
        return properties | interface.properties, required | set(interface.required)


def declarations(folder: Path, kinds: Iterable[str]) -> Declarations:
    """Read the declarations of a folder that these kinds are made of."""
    found = Declarations()
    waiting = [folder / f"{kind}.d.ts" for kind in kinds]
    read: set[Path] = set()
    while waiting:
        path = waiting.pop().resolve()
        if path not in read:
            read.add(path)
            text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            waiting += [
                path.parent / f"{name}.d.ts"
                for name in re.findall(r'^import .* from "(\..+)\.js";$', text, re.MULTILINE)
            ]
            _read(found, path.name.removesuffix(".d.ts"), text)
    return found


def _read(found: Declarations, short: str, text: str) -> None:
    long = re.search(rf"\bI{short} as I(\w+)", text)
    assert long is not None, f"{short} has no long name"
    declared = re.search(
        rf"^export interface I{short}(?: extends ([^{{]+))? \{{(.*?)^\}}", text, re.MULTILINE | re.DOTALL
    )
    if declared is None:
        alias = re.search(rf"^export type I{short} = (.*?;)$", text, re.MULTILINE | re.DOTALL)
        assert alias is not None, f"{short} is neither an interface nor a type"
        found.aliases[long[1]] = _Reader(text=alias[1]).type()
        return
    parents = tuple(_long(one.strip()) for one in (declared[1] or "").split(",") if one.strip())
    if TYPE_META in parents:
        found.by_kind[short] = long[1]
    properties, required = _Reader(text=f"{{{declared[2]}}}").fields()
    own = tuple(one for one in parents if one != TYPE_META)
    found.interfaces[long[1]] = Interface(parents=own, properties=properties, required=required)


def reference(long: str) -> dict[str, Any]:
    """How a schema names another of `$defs`."""
    return {"$ref": f"#/$defs/{long}"}


def _long(name: str) -> str:
    return name.removeprefix("I") if name.startswith("I") else name


class _Reader:
    """A type expression, token by token."""

    def __init__(self, *, text: str) -> None:
        self._tokens: list[str] = []
        position = 0
        while position < len(text.rstrip()):
            match = TOKEN.match(text, position)
            assert match is not None, f"not understood: {text[position : position + 60]!r}"
            self._tokens.append(match[0].strip())
            position = match.end()

    def type(self) -> dict[str, Any]:
        options = [self._single()]
        while self._tokens and self._tokens[0] == "|":
            self._take("|")
            options.append(self._single())
        if len(options) == 1:
            return options[0]
        if all("const" in one for one in options):
            return {"enum": [one["const"] for one in options]}
        return {"anyOf": options}

    def fields(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        properties, required = {}, []
        self._take("{")
        while self._tokens[0] != "}":
            name = self._take().strip('"')
            if self._tokens[0] == "?":
                self._take("?")
            else:
                required.append(name)
            self._take(":")
            properties[name] = self.type()
            self._take(";")
        self._take("}")
        return properties, tuple(required)

    def _single(self) -> dict[str, Any]:
        if self._tokens[0] == "{":
            return self._map_or_object()
        token = self._take()
        if token == "Array":
            self._take("<")
            items = self.type()
            self._take(">")
            return {"type": "array", "items": items}
        if token.startswith('"'):
            return {"const": token.strip('"')}
        if token.lstrip("-").isdigit():
            return {"const": int(token)}
        return PLAIN[token] if token in PLAIN else reference(_long(token))

    def _map_or_object(self) -> dict[str, Any]:
        if self._tokens[1] != "[key: string]":
            properties, required = self.fields()
            return {
                "type": "object",
                "properties": properties,
                "required": list(required),
                "additionalProperties": False,
            }
        self._take("{")
        self._take("[key: string]")
        self._take(":")
        values = self.type()
        self._take(";")
        self._take("}")
        return {"type": "object", "additionalProperties": values}

    def _take(self, wanted: str | None = None) -> str:
        token = self._tokens.pop(0)
        assert wanted in {None, token}, f"{wanted} expected, {token} found before {self._tokens[:5]}"
        return token
