"""The .proto files keep what clients were promised, and the check notices every way of not doing so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from services.grpc.compatibility import COMMAND, compare, promises, read_lock, update
from services.grpc.generate import describe

Change = Callable[[FileDescriptorSet], None]


@pytest.fixture(scope="module")
def described() -> FileDescriptorSet:
    """What the .proto files say now."""
    return describe()


def message(files: FileDescriptorSet, name: str) -> DescriptorProto:
    return next(one for file in files.file for one in file.message_type if one.name == name)


def field(files: FileDescriptorSet, path: str) -> FieldDescriptorProto:
    scope, _, name = path.partition(".")
    return next(one for one in message(files, scope).field if one.name == name)


def enum(files: FileDescriptorSet, name: str) -> EnumDescriptorProto:
    return next(one for file in files.file for one in file.enum_type if one.name == name)


def rpc(files: FileDescriptorSet, name: str) -> MethodDescriptorProto:
    return next(one for file in files.file for service in file.service for one in service.method if one.name == name)


def without_field(files: FileDescriptorSet) -> None:
    del message(files, "Usage").field[-1]


def without_message(files: FileDescriptorSet) -> None:
    common = files.file[0]
    del common.message_type[[one.name for one in common.message_type].index("StopCause")]


def without_value(files: FileDescriptorSet) -> None:
    del enum(files, "FinishReason").value[-1]


def without_rpc(files: FileDescriptorSet) -> None:
    inference = next(one for file in files.file for one in file.service if one.name == "Inference")
    del inference.method[-1]


def without_service(files: FileDescriptorSet) -> None:
    admin = next(file for file in files.file if file.name.endswith("admin.proto"))
    del admin.service[:]


def another_package(files: FileDescriptorSet) -> None:
    files.file[0].package = "longreach.v2"


def renumbered_field(files: FileDescriptorSet) -> None:
    field(files, "Usage.cached_tokens").number = 9


def renumbered_value(files: FileDescriptorSet) -> None:
    enum(files, "ReplicaState").value[1].number = 9


def retyped_field(files: FileDescriptorSet) -> None:
    field(files, "ChatResponse.created").type = FieldDescriptorProto.TYPE_INT32


def another_message_in_field(files: FileDescriptorSet) -> None:
    field(files, "ChatResponse.usage").type_name = ".longreach.v1.StopCause"


def another_type_in_map(files: FileDescriptorSet) -> None:
    message(files, "ChatRequest").nested_type[0].field[1].type = FieldDescriptorProto.TYPE_FLOAT


def repeated_field(files: FileDescriptorSet) -> None:
    field(files, "Replica.url").label = FieldDescriptorProto.LABEL_REPEATED


def field_without_presence(files: FileDescriptorSet) -> None:
    changed = field(files, "ChatRequest.temperature")
    changed.proto3_optional = False
    changed.ClearField("oneof_index")


def field_out_of_its_oneof(files: FileDescriptorSet) -> None:
    field(files, "Prompt.text").ClearField("oneof_index")


def renamed_oneof(files: FileDescriptorSet) -> None:
    message(files, "StopCause").oneof_decl[0].name = "reason"


def renamed_field(files: FileDescriptorSet) -> None:
    field(files, "Usage.cached_tokens").name = "reused_tokens"


def renamed_value(files: FileDescriptorSet) -> None:
    enum(files, "FinishReason").value[2].name = "FINISH_REASON_MAX_TOKENS"


def renamed_rpc(files: FileDescriptorSet) -> None:
    rpc(files, "Detokenize").name = "Untokenize"


def rpc_that_streams(files: FileDescriptorSet) -> None:
    rpc(files, "Chat").server_streaming = True


def rpc_that_takes_a_stream(files: FileDescriptorSet) -> None:
    rpc(files, "Chat").client_streaming = True


def rpc_that_takes_another_message(files: FileDescriptorSet) -> None:
    rpc(files, "Chat").input_type = ".longreach.v1.CompleteRequest"


def rpc_that_returns_another_message(files: FileDescriptorSet) -> None:
    rpc(files, "Chat").output_type = ".longreach.v1.CompleteResponse"


BREAKS: list[tuple[Change, str]] = [
    (without_field, "removed: field longreach.v1.Usage.cached_tokens"),
    (without_message, "removed: message longreach.v1.StopCause"),
    (without_value, "removed: value longreach.v1.FinishReason.FINISH_REASON_OTHER"),
    (without_rpc, "removed: rpc longreach.v1.Inference.ListModels"),
    (without_service, "removed: service longreach.v1.Admin"),
    (another_package, "removed: message longreach.v1.Usage"),
    (renumbered_field, "changed: field longreach.v1.Usage.cached_tokens was `= 4 optional int32`, is `= 9 optional"),
    (renumbered_value, "changed: value longreach.v1.ReplicaState.REPLICA_STATE_READY was `= 1`, is `= 9`"),
    (
        retyped_field,
        "changed: field longreach.v1.ChatResponse.created was `= 3 singular int64`, is `= 3 singular int32",
    ),
    (another_message_in_field, "changed: field longreach.v1.ChatResponse.usage was"),
    (another_type_in_map, "was `= 16 map int32 double`, is `= 16 map int32 float`"),
    (repeated_field, "is `= 3 repeated string`"),
    (field_without_presence, "was `= 4 optional double`, is `= 4 singular double`"),
    (field_out_of_its_oneof, "was `= 1 oneof(form) string`, is `= 1 singular string`"),
    (renamed_oneof, "was `= 1 oneof(cause) string`, is `= 1 oneof(reason) string`"),
    (renamed_field, "renamed: field longreach.v1.Usage.cached_tokens is field longreach.v1.Usage.reused_tokens now"),
    (renamed_value, "FINISH_REASON_LENGTH is value longreach.v1.FinishReason.FINISH_REASON_MAX_TOKENS now"),
    (renamed_rpc, "renamed: rpc longreach.v1.Inference.Detokenize is rpc longreach.v1.Inference.Untokenize now"),
    (rpc_that_streams, "returns longreach.v1.ChatResponse`, is `takes longreach.v1.ChatRequest returns stream"),
    (rpc_that_takes_a_stream, "is `takes stream longreach.v1.ChatRequest"),
    (rpc_that_takes_another_message, "is `takes longreach.v1.CompleteRequest"),
    (rpc_that_returns_another_message, "returns longreach.v1.CompleteResponse`"),
]


def changed(files: FileDescriptorSet, change: Change) -> FileDescriptorSet:
    other = FileDescriptorSet()
    other.CopyFrom(files)
    change(other)
    return other


def test_what_clients_were_promised_is_kept(described: FileDescriptorSet) -> None:
    comparison = compare(read_lock(), promises(described))
    assert comparison.broken == (), "clients use these: put them back, and put the new thing beside them or into v2"
    assert comparison.added == (), f"new: once they are as they shall stay, `{COMMAND}` promises them"


@pytest.mark.parametrize(("change", "sentence"), BREAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_break_is_found_and_named(described: FileDescriptorSet, change: Change, sentence: str) -> None:
    broken = compare(promises(described), promises(changed(described, change))).broken
    assert any(sentence in one for one in broken), broken


def test_a_break_is_not_written(described: FileDescriptorSet, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    update(lock, described)
    before = lock.read_bytes()
    assert update(lock, changed(described, renamed_field)).broken
    assert lock.read_bytes() == before


def test_what_is_new_is_added_and_then_promised(described: FileDescriptorSet, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert update(lock, described).added == tuple(promises(described))
    more = changed(described, lambda files: message(files, "Usage").field.add(name="late", number=5, type=5, label=1))
    line = "field longreach.v1.Usage.late = 5 singular int32"
    assert compare(read_lock(lock), promises(more)).added == (line,)
    assert update(lock, more).added == (line,)
    assert compare(read_lock(lock), promises(described)).broken == ("removed: field longreach.v1.Usage.late",)


def test_each_name_has_one_line(described: FileDescriptorSet) -> None:
    names = [" ".join(line.split(" ", 2)[:2]) for line in promises(described)]
    assert sorted(set(names)) == sorted(names)
