"""The .proto files keep to the style guide, and the check of it notices what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.grpc.generate import PROTO, describe
from tests.proto_style import LINE_CHARS_MAX, complaints

GOOD = """\
// What this is for.
syntax = "proto3";

package some.v1;

// A way.
enum WayOut {
  // Not known.
  WAY_OUT_UNSPECIFIED = 0;
}

// A thing.
message ThingUrl {
  // Its names.
  repeated string names = 1;
  // By key.
  map<string, string> by_key = 2;
  // Either.
  oneof either {
    // One.
    string one = 3;
  }
  // May be absent.
  optional int32 size = 4;
}

// Makes things.
service Maker {
  // One.
  rpc Make(ThingUrl) returns (ThingUrl);
}
"""
WRONG = [
    ("// A thing.\n", "", "no comment above the message ThingUrl says"),
    ("  // Its names.\n", "", "no comment above the field ThingUrl.names says"),
    ("  // Either.\n", "", "no comment above the oneof ThingUrl.either says"),
    ("// A way.\n", "", "no comment above the enum WayOut says"),
    ("  // Not known.\n", "", "no comment above the value WayOut.WAY_OUT_UNSPECIFIED says"),
    ("// Makes things.\n", "", "no comment above the service Maker says"),
    ("  // One.\n  rpc", "  rpc", "no comment above the rpc Maker.Make says"),
    ("// What this is for.\n", "", "no comment at its top"),
    ("ThingUrl", "ThingURL", "the message ThingURL is not in PascalCase"),
    ("WayOut {", "way_out {", "the enum way_out is not in PascalCase"),
    ("Maker", "maker", "the service maker is not in PascalCase"),
    ("Make(", "make(", "the rpc Maker.make is not in PascalCase"),
    ("by_key", "byKey", "the field ThingUrl.byKey is not in lower_snake_case"),
    ("oneof either", "oneof Either", "the oneof ThingUrl.Either is not in lower_snake_case"),
    ("names = 1", "name = 1", "the repeated field ThingUrl.name is no plural"),
    ("WAY_OUT_UNSPECIFIED", "Way_Out_UNSPECIFIED", "is not in UPPER_SNAKE_CASE"),
    ("WAY_OUT_UNSPECIFIED", "UNSPECIFIED", "does not begin with WAY_OUT_"),
    ("WAY_OUT_UNSPECIFIED", "WAY_OUT_NONE", "is 0 and not WAY_OUT_UNSPECIFIED"),
    ("package some.v1", "package other.v1", "the package other.v1 is in the folder some/v1"),
    ("proto3", "proto2", "its syntax is not proto3"),
    ("// A way.", "// " + "a way " * 30, f"characters, over {LINE_CHARS_MAX}"),
    ("  // Its names.", " // Its names.", "has tabs, an odd indent"),
    ('"proto3"', "'proto3'", "has single quotes"),
]


def found_in(folder: Path) -> list[str]:
    return [
        sentence
        for file in describe(folder).file
        for sentence in complaints(file, (folder / file.name).read_text(encoding="utf-8"))
    ]


def described(folder: Path, text: str, name: str = "some/v1/thing.proto") -> list[str]:
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return found_in(folder)


def test_the_files_keep_to_the_style() -> None:
    assert found_in(PROTO) == []


def test_a_good_file_is_let_pass(tmp_path: Path) -> None:
    assert described(tmp_path, GOOD) == []


@pytest.mark.parametrize(("was", "becomes", "sentence"), WRONG, ids=[sentence for *_, sentence in WRONG])
def test_what_is_wrong_is_named(tmp_path: Path, was: str, becomes: str, sentence: str) -> None:
    assert was in GOOD
    found = described(tmp_path, GOOD.replace(was, becomes))
    assert any(sentence in one for one in found), found


def test_a_package_has_a_version(tmp_path: Path) -> None:
    found = described(tmp_path, GOOD.replace("some.v1", "some"), "some/thing.proto")
    assert found == ["some/thing.proto: the package some ends in no version"]
