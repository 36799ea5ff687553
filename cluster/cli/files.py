"""Files that a command was asked to write.

What must not live here: what is in them.
"""

from __future__ import annotations

from pathlib import Path


def write(path: Path, text: str) -> None:
    """A file that was asked for.

    Raises:
        SetupError: it cannot be written.
    """
    from cluster.core.errors import SetupError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}", "name another file") from error
