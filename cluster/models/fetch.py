"""What the store asks of a source: a revision, what it needs on disk, and the files.

What lives here: that one protocol. What must not: any source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.models.progress import Progress


class Fetch(Protocol):
    """One model from one source, ready to be fetched."""

    @property
    def revision(self) -> str:
        """Names what will arrive; a folder name, so equal content should give an equal revision."""

    @property
    def peak_bytes(self) -> int:
        """The most the fetch holds on disk at one time, in both folders together."""

    def into(self, files: Path, work: Path, progress: Progress) -> None:
        """Put the model's files into `files`, with `work` as scratch space.

        Both folders may hold what a killed fetch of the same revision left; it is reused where it checks out.

        Raises:
            ModelStoreError: the files cannot be had, or are not what was promised.
        """
