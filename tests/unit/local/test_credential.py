"""The secret of a run: for its owner's eyes, for two processes, and for one run."""

from __future__ import annotations

from pathlib import Path

from cluster.environment import CREDENTIAL_VARIABLE, read_environment
from cluster.local.credential import make_credential, with_credential, without_credential
from cluster.local.launch import marked
from cluster.local.rundir import RunDir

ENTROPY_CHARACTERS_MIN = 43
"""32 bytes in base64, without padding."""


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "credential"
    secret = make_credential(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text(encoding="ascii") == secret
    assert len(secret) >= ENTROPY_CHARACTERS_MIN


def test_every_run_has_its_own(tmp_path: Path) -> None:
    path = tmp_path / "credential"
    path.write_text("old and open")
    path.chmod(0o666)
    first = make_credential(path)
    second = make_credential(path)
    assert first != second
    assert path.read_text(encoding="ascii") == second
    assert path.stat().st_mode & 0o777 == 0o600


def test_clusters_behind_one_gateway_share_one(tmp_path: Path) -> None:
    assert make_credential(tmp_path / "credential", "theirs") == "theirs"
    assert (tmp_path / "credential").read_text(encoding="ascii") == "theirs"


def test_a_link_in_its_place_leads_nowhere(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "credential").symlink_to(target)
    make_credential(tmp_path / "credential")
    assert not target.exists()


def test_it_travels_in_the_environment_of_those_who_need_it(tmp_path: Path) -> None:
    env = with_credential({"PATH": "/bin"}, "s")
    assert read_environment(env).replica_credential == "s"
    assert without_credential(env) == {"PATH": "/bin"}
    assert CREDENTIAL_VARIABLE not in marked(env, run_dir=RunDir(root=tmp_path), run="r")


def test_nothing_is_no_secret() -> None:
    assert read_environment({}).replica_credential is None
    assert read_environment({CREDENTIAL_VARIABLE: ""}).replica_credential is None


def test_it_goes_with_the_cluster(tmp_path: Path) -> None:
    run_dir = RunDir(root=tmp_path / "c")
    run_dir.prepare()
    make_credential(run_dir.credential)
    run_dir.clear()
    assert not run_dir.credential.exists()
