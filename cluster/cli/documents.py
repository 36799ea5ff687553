"""Files and folders as context for a chat.

What must not live here: asking the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import SetupError

FILE_BYTES_MAX = 16 * 2**20
"""One document: four million tokens or so, more than any pool holds."""
FOLDER_FILE_BYTES_MAX = 512 * 2**10
"""In a folder, larger files are data or made by a machine."""
FOLDER_BYTES_MAX = 8 * 2**20
FOLDER_FILES_MAX = 5_000
SNIFFED_BYTES = 8192
"""Where git looks for a NUL byte, to tell binary files."""
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "build", "dist", "target", "venv"})
"""Beside everything that begins with a dot: what tools put there, not people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text with a name."""

    name: str
    text: str


def read_file(path: Path) -> Document:
    """A text file that somebody named.

    Raises:
        SetupError: it cannot be read, is not text, or is too large.
    """
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise SetupError(f"{path} has {size:,} bytes, over the limit of {FILE_BYTES_MAX:,}", "split it")
        return Document(name=str(path), text=path.read_bytes().decode())
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} is not a text file in UTF-8", "convert it to text first") from error
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}", "name a file you can read") from error


def read_folder(folder: Path) -> list[Document]:
    """The text files below a folder, in order of their names; binary, hidden and very large ones are left out.

    Raises:
        SetupError: it is no folder, has no text, or has too much.
    """
    if not folder.is_dir():
        raise SetupError(f"{folder} is not a folder", "name a folder, or use --file")
    documents: list[Document] = []
    total_bytes = 0
    for path in _files(folder):
        text = _text(path)
        if text is None:
            continue
        total_bytes += len(text.encode())
        if total_bytes > FOLDER_BYTES_MAX or len(documents) >= FOLDER_FILES_MAX:
            raise SetupError(
                f"{folder} has more text than {FOLDER_BYTES_MAX // 2**20} MiB or {FOLDER_FILES_MAX} files",
                "name a smaller folder, or single files with --file",
            )
        documents.append(Document(name=str(path.relative_to(folder)), text=text))
    if not documents:
        raise SetupError(f"{folder} has no text files", "name another folder")
    return documents


def as_context(documents: Sequence[Document]) -> str:
    """One text for the prompt, each document under its name."""
    return "\n\n".join(f'<document name="{document.name}">\n{document.text}\n</document>' for document in documents)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        # A link may lead out of the folder, or round in circles.
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            if path.name not in SKIPPED_FOLDERS:
                yield from _files(path)
        elif path.is_file() and path.stat().st_size <= FOLDER_FILE_BYTES_MAX:
            yield path


def _text(path: Path) -> str | None:
    try:
        data = path.read_bytes()
        return None if b"\0" in data[:SNIFFED_BYTES] else data.decode()
    except (OSError, UnicodeDecodeError):
        return None
