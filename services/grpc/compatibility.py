"""What clients were promised of longreach.v1, and whether the .proto files still keep it.

The lock beside the .proto files has one line for each name that clients may use. What a line says stays so for as long
as the package is called v1: another number or type garbles messages, another name breaks programs and JSON. Lines are
only ever added: `python -m services.grpc.compatibility` adds what is new, and refuses everything else. What must not
live here: how the files are written (tests/proto_style.py), anything a gateway needs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from services.grpc.generate import PROTO, describe

LOCK = PROTO / "longreach.v1.lock"
COMMAND = "python -m services.grpc.compatibility"
HEAD = f"""\
# What clients of this API were promised; services/grpc/compatibility.py says how to read it, a test holds the .proto
# files to it. A line that is here stays as it is. `{COMMAND}` adds what is new.
"""
_NAMED_TYPES = frozenset({FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_ENUM})


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What became of the promises."""

    broken: tuple[str, ...]
    """A sentence each."""
    added: tuple[str, ...]
    """Lines that the lock does not have yet."""


def promises(described: FileDescriptorSet) -> list[str]:
    """A line for each message, field, enum, enum value, service and rpc, in the order they are declared in.

    A line is `KIND NAME SHAPE`: the name is the full one, the shape is everything that must not change: for a field
    `= NUMBER PRESENCE TYPE`, where PRESENCE is `singular` (absent and default are one), `optional`, `repeated` or
    `oneof(NAME)`, or `map KEY VALUE` in place of both; for an rpc what it takes and returns.
    """
    return [line for file in described.file for line in _of_file(file)]


def compare(locked: Sequence[str], now: Sequence[str]) -> Comparison:
    """Hold what there is now to what was promised; both are lines of `promises`."""
    before, after = ({_name(line): line for line in lines} for lines in (locked, now))
    fresh = [line for name, line in after.items() if name not in before]
    broken = [_break(line, after.get(name), fresh) for name, line in before.items() if after.get(name) != line]
    return Comparison(broken=tuple(broken), added=tuple(fresh))


def read_lock(path: Path = LOCK) -> list[str]:
    """The lock's lines, without its comments; none where there is no lock yet."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def update(path: Path, described: FileDescriptorSet) -> Comparison:
    """Write what is new into the lock, unless something is broken.

    Args:
        path: the lock.
        described: what there is now.
    """
    now = promises(described)
    comparison = compare(read_lock(path), now)
    if not comparison.broken:
        path.write_text(HEAD + "".join(f"{line}\n" for line in now), encoding="utf-8")
    return comparison


def main() -> int:
    """Update the lock; 1 where a promise is broken."""
    comparison = update(LOCK, describe())
    if comparison.broken:
        sys.stderr.writelines(f"{sentence}\n" for sentence in comparison.broken)
        sys.stderr.write(
            "Nothing was written. What must change goes into a new package, longreach.v2, beside this one.\n"
        )
        return 1
    sys.stdout.writelines(f"new: {line}\n" for line in comparison.added)
    sys.stdout.write(f"{LOCK.name} has {len(comparison.added)} new lines\n")
    return 0


def _name(line: str) -> str:
    """Kind and full name: what a line is about."""
    return " ".join(line.split(" ", 2)[:2])


def _shape(line: str) -> str:
    return line.removeprefix(_name(line)).strip()


def _break(was: str, now: str | None, fresh: Sequence[str]) -> str:
    """How a promise was broken."""
    if now is not None:
        return f"changed: {_name(was)} was `{_shape(was)}`, is `{_shape(now)}`"
    for line in fresh:
        if _shape(was) and _shape(line) == _shape(was) and _scope(line) == _scope(was):
            return f"renamed: {_name(was)} is {_name(line)} now"
    return f"removed: {_name(was)}"


def _scope(line: str) -> str:
    return _name(line).rpartition(".")[0]


def _of_file(file: FileDescriptorProto) -> Iterator[str]:
    for service in file.service:
        yield from _of_service(service, file.package)
    for enum in file.enum_type:
        yield from _of_enum(enum, file.package)
    for message in file.message_type:
        yield from _of_message(message, file.package)


def _of_service(service: ServiceDescriptorProto, scope: str) -> Iterator[str]:
    name = f"{scope}.{service.name}"
    yield f"service {name}"
    for method in service.method:
        takes = _streamed(method.input_type, is_stream=method.client_streaming)
        returns = _streamed(method.output_type, is_stream=method.server_streaming)
        yield f"rpc {name}.{method.name} takes {takes} returns {returns}"


def _streamed(type_name: str, *, is_stream: bool) -> str:
    return ("stream " if is_stream else "") + type_name.removeprefix(".")


def _of_enum(enum: EnumDescriptorProto, scope: str) -> Iterator[str]:
    name = f"{scope}.{enum.name}"
    yield f"enum {name}"
    for value in enum.value:
        yield f"value {name}.{value.name} = {value.number}"


def _of_message(message: DescriptorProto, scope: str) -> Iterator[str]:
    name = f"{scope}.{message.name}"
    yield f"message {name}"
    maps = {f".{name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
    for field in message.field:
        entry = maps.get(field.type_name)
        if entry is not None:
            key, value = entry.field
            shape = f"map {_type(key)} {_type(value)}"
        else:
            shape = f"{_presence(field, message)} {_type(field)}"
        yield f"field {name}.{field.name} = {field.number} {shape}"
    for enum in message.enum_type:
        yield from _of_enum(enum, name)
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from _of_message(nested, name)


def _presence(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return "repeated"
    if field.proto3_optional:
        return "optional"
    if field.HasField("oneof_index"):
        return f"oneof({message.oneof_decl[field.oneof_index].name})"
    return "singular"


def _type(field: FieldDescriptorProto) -> str:
    if field.type in _NAMED_TYPES:
        return field.type_name.removeprefix(".")
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


if __name__ == "__main__":
    sys.exit(main())
