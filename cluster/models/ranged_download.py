"""One file over HTTP, resumed where a killed download stopped.

What lives here: the ranged GET and its retries. What must not: knowing hubs, hashes or folders.
The hub client's own downloader starts a file again after a kill (huggingface_hub 2.x writes to a temporary name that
no later process finds), which is 4 GB lost with the reference model's larger shard.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx

from cluster.models.faults import source_away, store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MAX_TRIES_WITHOUT_PROGRESS = 5
"""A link that drops is picked up again and again; one that brings nothing five times in a row is down."""
RETRY_PAUSE_S = 1.0
READ_TIMEOUT_S = 30.0
"""Longest silence inside a download; hubs and mirrors start sending within seconds."""
RANGE_NOT_SATISFIABLE = 416
NOT_NOW = frozenset({408, 425, 429})
"""Refusals that say when, not what."""


def download(
    url: str, target: Path, *, size_bytes: int, headers: Mapping[str, str], report: Callable[[int], None]
) -> None:
    """Bring `url` to `target`, which appears only when it has `size_bytes` bytes; `report` gets the bytes so far.

    Raises:
        ModelStoreError: the server refuses, or brings nothing new in several tries.
    """
    part = target.with_name(target.name + ".part")
    part.touch()
    tries = 0
    while (have_bytes := part.stat().st_size) != size_bytes:
        if have_bytes > size_bytes:
            part.write_bytes(b"")
            have_bytes = 0
        problem = _get_rest(url, part, have_bytes=have_bytes, headers=headers, report=report)
        if part.stat().st_size > have_bytes:
            tries = 0
            continue
        tries += 1
        if tries >= MAX_TRIES_WITHOUT_PROGRESS:
            raise source_away(
                f"{url} stopped at {have_bytes} of {size_bytes} bytes: {problem}",
                "run the same pull again when the network is back; it goes on from there",
            )
        time.sleep(RETRY_PAUSE_S)
    part.rename(target)


def _get_rest(
    url: str, part: Path, *, have_bytes: int, headers: Mapping[str, str], report: Callable[[int], None]
) -> str:
    """One try: append what the server sends to `part`; the answer says why it ended, if it ended early."""
    asked = {**headers, "Accept-Encoding": "identity"}  # compressed bytes have other offsets
    if have_bytes:
        asked["Range"] = f"bytes={have_bytes}-"
    try:
        with httpx.stream("GET", url, headers=asked, follow_redirects=True, timeout=READ_TIMEOUT_S) as response:
            if response.status_code == RANGE_NOT_SATISFIABLE:
                part.write_bytes(b"")
                return "the server has fewer bytes than it promised"
            response.raise_for_status()
            resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
            done_bytes = have_bytes if resumed else 0
            with part.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_raw():  # as it arrives: a chunk size would hold bytes back until it is full
                    file.write(chunk)
                    done_bytes += len(chunk)
                    report(done_bytes)
    except httpx.HTTPStatusError as error:
        if error.response.is_client_error and error.response.status_code not in NOT_NOW:
            raise store_error(
                f"{url} answered {error.response.status_code} {error.response.reason_phrase}",
                "check the model's name and revision, and that the token in the file at HF_TOKEN_PATH may read it",
            ) from error
        return str(error)
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    return "the connection ended early"
