"""How the programs of one container agree on a drain: a folder that holds the wish, and what each replica has left.

`drain` is there once somebody asked. `replica-PID-START` is a replica's own word; one whose process is gone is swept
away, so nobody waits for the killed. A folder that others own or may write to is not obeyed: whoever can write a wish
takes replicas out of service. What must not live here: waiting (node_drain.py), refusing work (gate.py).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_ISDIR

from cluster.engine.orphans import identity, is_alive

log = logging.getLogger("longreach.engine")
PRIVATE = 0o700
OTHERS_WRITE = 0o022
"""Group and others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaNote:
    """What a replica says of its drain."""

    replica_id: str
    process: str
    """`orphans.identity` of its process."""
    is_draining: bool
    """It refuses new work, so what is in flight only gets less."""
    in_flight: int
    """Requests, where it drains; nobody asks before."""


class DrainFolder:
    """The folder. It is made when something is written to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wish = path / "drain"

    def ask(self) -> None:
        """Ask every replica of this container, those that start later included, to drain.

        Raises:
            OSError: the folder cannot be written.
        """
        self._write(self._wish, _container())

    def is_asked(self) -> bool:
        """Whether somebody asked. A container that was started again begins anew, though its volumes stay."""
        try:
            return self._is_ours() and self._wish.read_text(encoding="ascii") == _container()
        except (OSError, ValueError):
            return False

    def tell(self, note: ReplicaNote) -> None:
        """Write a replica's note.

        Raises:
            OSError: the folder cannot be written.
        """
        self._write(self._note(note.process), json.dumps(asdict(note)))

    def leave(self, process: str) -> None:
        """Remove a replica's note: nothing of it is worth waiting for."""
        with contextlib.suppress(OSError):
            self._note(process).unlink(missing_ok=True)

    def notes(self) -> tuple[ReplicaNote, ...]:
        """What the living replicas say."""
        found: list[ReplicaNote] = []
        if not self._is_ours():
            return ()
        for path in sorted(self._path.glob("replica-*")):
            with contextlib.suppress(OSError, ValueError, TypeError):
                note = ReplicaNote(**json.loads(path.read_text(encoding="utf-8")))
                if is_alive(note.process):
                    found.append(note)
                else:
                    path.unlink(missing_ok=True)
        return tuple(found)

    def _note(self, process: str) -> Path:
        # With its start: the sweep of a dead process's note must not hit that of a new one with the same number.
        return self._path / f"replica-{process.replace(':', '-')}"

    def _is_ours(self) -> bool:
        try:
            found = self._path.lstat()
        except OSError:
            return False
        return S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & OTHERS_WRITE

    def _write(self, path: Path, text: str) -> None:
        self._path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        if not self._is_ours():
            raise PermissionError(f"{self._path} is another user's, or open to others' writing: remove it")
        partial = self._path / f".{path.name}.{os.getpid()}"
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


class ReplicaDrain:
    """One replica's side of it; it never raises, since a replica serves with or without the folder."""

    def __init__(self, path: Path, replica_id: str) -> None:
        self._folder = DrainFolder(path)
        self._path = path
        self._replica_id = replica_id
        self._process = identity(os.getpid())
        self._told: ReplicaNote | None = None
        self._is_refused = False

    def is_asked(self) -> bool:
        """Whether this replica is to drain."""
        return self._folder.is_asked()

    def tell(self, *, is_draining: bool, in_flight: int) -> None:
        """Say how it stands; call it again and again, it writes what has changed."""
        count = in_flight if is_draining else 0
        note = ReplicaNote(replica_id=self._replica_id, process=self._process, is_draining=is_draining, in_flight=count)
        if note == self._told:
            return
        try:
            self._folder.tell(note)
            self._told = note
        except OSError as error:
            if not self._is_refused:
                log.warning("%s cannot be written, a drain of this node will not wait for us: %s", self._path, error)
            self._is_refused = True

    def leave(self) -> None:
        """Nobody needs to wait for it any more."""
        self._folder.leave(self._process)


def _container() -> str:
    """What changes when the container is started again: its first process."""
    try:
        return identity(1)
    except OSError:
        return "unknown"
