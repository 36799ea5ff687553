"""The keys file: what it takes, what it refuses, how it is written."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest
import yaml

from cluster.config.keys import KEYS_MAX, KeysFile, digest_of, load_keys, save_keys
from cluster.core.errors import ConfigError, SetupError

HASH = digest_of("lr-one").hex()
OTHER_HASH = digest_of("lr-two").hex()
GOOD = f"""\
keys:
  - id: key-1
    tenant: acme
    role: admin
    sha256: {HASH}
    created: 2026-11-03
    comment: the laptop
  - id: key-2
    tenant: acme
    sha256: {OTHER_HASH}
    created: 2026-11-04
"""


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_is_read_with_its_defaults(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = load_keys(write(tmp_path, GOOD)).keys
    assert (first.id, first.tenant, first.role, first.comment) == ("key-1", "acme", "admin", "the laptop")
    assert (second.role, second.comment, second.created.isoformat()) == ("client", "", "2026-11-04")
    assert caplog.text == ""


def test_dates_are_dates_whatever_others_do_to_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As lm-format-enforcer does, which vLLM imports with its grammars."""
    timestamp = "tag:yaml.org,2002:timestamp"
    constructors = yaml.SafeLoader.yaml_constructors
    monkeypatch.setitem(constructors, timestamp, constructors["tag:yaml.org,2002:str"])
    assert load_keys(write(tmp_path, GOOD)).keys[1].created.isoformat() == "2026-11-04"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_others_that_may_read_it_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int) -> None:
    with caplog.at_level(logging.WARNING):
        load_keys(write(tmp_path, GOOD, mode))
    assert "can be read by others: chmod 600" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a file somebody else's")
def test_a_file_of_somebody_elses_that_comes_by_its_group_is_fine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, GOOD, 0o440)
    os.chown(path, 12345, os.getegid())
    load_keys(path)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("role: admin", "role: root"), "keys.yaml:4: keys[0].role: "),
        (("    comment: the laptop", "    colour: red"), "keys.yaml:7: keys[0].colour: is not a known key"),
        (("id: key-2", "id: key-1"), "keys.yaml:1: keys: the id 'key-1' is used twice"),
        ((OTHER_HASH, HASH), "'key-2' and 'key-1' are the same key"),
        (("id: key-2", "id: none"), "stands for requests without a key"),
        (("tenant: acme\n    role", "tenant: Acme Inc\n    role"), "keys.yaml:3: keys[0].tenant: "),
        (("    created: 2026-11-04\n", ""), "keys.yaml:8: keys[1].created: is required"),
        (("created: 2026-11-03", "created: soon"), "keys.yaml:6: keys[0].created: "),
        (("    role: admin\n", "    role: admin\n    role: client\n"), "keys.yaml:5: role: is given twice"),
        (("keys:\n", "keys: [\n"), "not YAML"),
        ((GOOD, "- 1\n"), "must be a mapping with the key keys"),
        ((GOOD, ""), "must be a mapping with the key keys"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_keys(write(tmp_path, GOOD.replace(*change)))
    assert says in str(caught.value)


def test_a_key_put_where_its_hash_belongs_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_keys(write(tmp_path, GOOD.replace(HASH, "lr-secret")))
    assert "keys.yaml:5: keys[0].sha256" in str(caught.value)
    assert "lr-secret" not in str(caught.value)


def test_too_many_keys_are_refused() -> None:
    many = [{"id": f"k{n}", "tenant": "t", "sha256": f"{n:064x}", "created": "2026-11-03"} for n in range(KEYS_MAX + 1)]
    with pytest.raises(ValueError, match="too_long"):
        KeysFile.model_validate({"keys": many}, strict=False)


def test_what_is_written_is_read_back_and_private(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, 0o644)
    before = load_keys(path)
    save_keys(path, before)
    assert load_keys(path) == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["keys.yaml"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "real" / "keys.yaml"
    link = tmp_path / "keys.yaml"
    link.symlink_to(target)
    save_keys(link, KeysFile(keys=[]))
    assert link.is_symlink()
    assert load_keys(target).keys == []


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be written"):
        save_keys(tmp_path / "file" / "keys.yaml", KeysFile(keys=[]))
