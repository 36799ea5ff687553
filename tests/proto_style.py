"""What is wrong with the style of .proto files: the rules of the language's style guide and of this project.

The guide is at https://protobuf.dev/programming-guides/style. What must not live here: what may change in a file
(services/grpc/compatibility.py), other linters (tests/integration/test_proto_buf.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
    SourceCodeInfo,
)

LINE_CHARS_MAX = 120
KEEPS_ITS_NAME = frozenset({"stop", "top"})
"""Repeated fields without a plural: OpenAI's own name, and one that reads as `top five`."""
_CASES = {
    "PascalCase": re.compile(r"(?:[A-Z][a-z0-9]+)+"),  # abbreviations are words: Url, not URL
    "lower_snake_case": re.compile(r"[a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)*"),
    "UPPER_SNAKE_CASE": re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z][A-Z0-9]*)*"),
}
_VERSION = re.compile(r"v[1-9][0-9]*(?:(?:alpha|beta)[1-9][0-9]*)?")

# Numbers of fields in descriptor.proto, which the paths of source info are made of.
_SYNTAX = 12
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM, _MESSAGE_ONEOF = 2, 3, 4, 8
_MEMBER = 2
"""An enum's values, a service's rpcs."""

Path = tuple[int, ...]


def complaints(file: FileDescriptorProto, text: str) -> list[str]:
    """A sentence for each thing that is wrong.

    Args:
        file: described with source info.
        text: the file's own.
    """
    found = _File(file)
    return [f"{file.name}: {sentence}" for sentence in (*found.of_file(), *found.of_declarations(), *_of_text(text))]


def _of_text(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > LINE_CHARS_MAX:
            yield f"line {number} has {len(line)} characters, over {LINE_CHARS_MAX}"
        indent = len(line) - len(line.lstrip())
        if "\t" in line or line != line.rstrip() or indent % 2:
            yield f"line {number} has tabs, an odd indent or spaces at its end"
        if "'" in line.partition("//")[0]:
            yield f"line {number} has single quotes around a string"


class _File:
    """One file with its comments by their path."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._places: Mapping[Path, SourceCodeInfo.Location] = {
            tuple(place.path): place for place in file.source_code_info.location
        }

    def of_file(self) -> Iterator[str]:
        file, name = self._file, PurePosixPath(self._file.name)
        if file.syntax != "proto3":
            yield "its syntax is not proto3"
        if not _CASES["lower_snake_case"].fullmatch(name.stem):
            yield "its own name is not in lower_snake_case"
        if file.package != ".".join(name.parent.parts):
            yield f"the package {file.package} is in the folder {name.parent}"
        if not _VERSION.fullmatch(file.package.rpartition(".")[2]):
            yield f"the package {file.package} ends in no version"
        if list(file.dependency) != sorted(file.dependency):
            yield "its imports are not in order"
        if not self._is_told((_SYNTAX,)):
            yield "no comment at its top says what lives in it"

    def of_declarations(self) -> Iterator[str]:
        for at, message in enumerate(self._file.message_type):
            yield from self._of_message(message, message.name, (_FILE_MESSAGE, at))
        for at, enum in enumerate(self._file.enum_type):
            yield from self._of_enum(enum, enum.name, (_FILE_ENUM, at))
        for at, service in enumerate(self._file.service):
            yield from self._of_service(service, (_FILE_SERVICE, at))

    def _of_message(self, message: DescriptorProto, name: str, path: Path) -> Iterator[str]:
        if message.options.map_entry:
            return
        yield from self._of_name("message", name, path, "PascalCase")
        for at, field in enumerate(message.field):
            here = (*path, _MESSAGE_FIELD, at)
            yield from self._of_name("field", f"{name}.{field.name}", here, "lower_snake_case")
            if _is_list(field, message) and not field.name.endswith("s") and field.name not in KEEPS_ITS_NAME:
                yield f"the repeated field {name}.{field.name} is no plural"
        for at, oneof in enumerate(message.oneof_decl):
            if any(field.proto3_optional and field.oneof_index == at for field in message.field):
                continue  # the compiler's own, behind `optional`
            here = (*path, _MESSAGE_ONEOF, at)
            yield from self._of_name("oneof", f"{name}.{oneof.name}", here, "lower_snake_case")
        for at, nested in enumerate(message.nested_type):
            yield from self._of_message(nested, f"{name}.{nested.name}", (*path, _MESSAGE_NESTED, at))
        for at, enum in enumerate(message.enum_type):
            yield from self._of_enum(enum, f"{name}.{enum.name}", (*path, _MESSAGE_ENUM, at))

    def _of_enum(self, enum: EnumDescriptorProto, name: str, path: Path) -> Iterator[str]:
        yield from self._of_name("enum", name, path, "PascalCase")
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
        for at, value in enumerate(enum.value):
            full, here = f"{name}.{value.name}", (*path, _MEMBER, at)
            yield from self._of_name("value", full, here, "UPPER_SNAKE_CASE")
            if not value.name.startswith(prefix):
                yield f"the value {full} does not begin with {prefix}"
            if value.number == 0 and value.name != f"{prefix}UNSPECIFIED":
                yield f"the value {full} is 0 and not {prefix}UNSPECIFIED"

    def _of_service(self, service: ServiceDescriptorProto, path: Path) -> Iterator[str]:
        yield from self._of_name("service", service.name, path, "PascalCase")
        for at, method in enumerate(service.method):
            full, here = f"{service.name}.{method.name}", (*path, _MEMBER, at)
            yield from self._of_name("rpc", full, here, "PascalCase")

    def _of_name(self, kind: str, name: str, path: Path, case: str) -> Iterator[str]:
        """What is wrong with a declaration of any kind."""
        if not _CASES[case].fullmatch(name.rpartition(".")[2]):
            yield f"the {kind} {name} is not in {case}"
        if not self._is_told(path):
            yield f"no comment above the {kind} {name} says what it is"

    def _is_told(self, path: Path) -> bool:
        place = self._places.get(path)
        return place is not None and bool(place.leading_comments.strip())


def _is_list(field: FieldDescriptorProto, message: DescriptorProto) -> bool:
    if field.label != FieldDescriptorProto.LABEL_REPEATED:
        return False
    entries = {entry.name for entry in message.nested_type if entry.options.map_entry}
    return field.type_name.rpartition(".")[2] not in entries
