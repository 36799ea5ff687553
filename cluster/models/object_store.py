"""A model folder in an object store, s3://, gs:// or az://, as GPU clusters keep them.

What lives here: listing and copying through obstore. What must not: credentials (obstore finds them where each cloud's
own tools do).
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore import exceptions
from obstore.store import from_url

from cluster.models.faults import source_away, store_error
from cluster.models.hub import is_wanted
from cluster.models.manifest import MANIFEST_NAME, check_hashes, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

    from cluster.core.errors import ModelStoreError
    from cluster.models.progress import Progress

LOGINS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in Kubernetes from a Secret) or its service account's role, "
    "AWS_REGION, and AWS_ENDPOINT_URL where the store is not Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS names a key file (in Kubernetes a mounted Secret), or workload identity",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY (from a Secret), or workload identity",
}
"""Where obstore looks first, by the scheme of an address."""
REVISION_LETTERS = 12
BLOCK_BYTES = 16 << 20
AT_ONCE = 4
"""Blocks on their way: a single connection to a store brings a tenth of what a node's network does."""
CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=10), "timeout": timedelta(seconds=120), "allow_http": True}
"""A block in two minutes is 140 kB/s: slower is broken. Plain HTTP is spoken only where the endpoint says so."""
RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}
"""Within one call. A source that stays away is waited for by whoever pulls."""
LASTING = (
    exceptions.NotFoundError,
    exceptions.InvalidPathError,
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
    exceptions.PreconditionError,
    exceptions.NotSupportedError,
)
"""A wrong address or login, or a folder that changed meanwhile; everything else may pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of the folder."""

    name: str
    size_bytes: int
    etag: str | None
    """The store's name for this content of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStoreFetch:
    """A listed folder, ready to come. A manifest among its files (a folder copied from a model store) is checked."""

    url: str
    store: ObjectStore
    files: tuple[StoredFile, ...]
    revision: str

    @property
    def peak_bytes(self) -> int:
        """All wanted files."""
        return sum(file.size_bytes for file in self.files)

    def into(self, files: Path, work: Path, progress: Progress) -> None:
        """Copy every wanted file, going on where a killed copy stopped."""
        total_bytes = self.peak_bytes
        done_bytes = 0
        for file in self.files:
            target = files / file.name
            if not target.exists():
                part = work / file.name
                part.touch()
                have_bytes = part.stat().st_size
                with part.open("ab") as local:
                    for block in self._rest(file, have_bytes):
                        have_bytes += local.write(block)
                        progress("downloading", done_bytes + have_bytes, total_bytes)
                if have_bytes != file.size_bytes:
                    part.unlink()
                    raise store_error(
                        f"{self.url}/{file.name} has {have_bytes} bytes, {file.size_bytes} listed", "pull again"
                    )
                part.rename(target)
            done_bytes += file.size_bytes
        manifest = files / MANIFEST_NAME
        if manifest.exists():
            try:
                expected = parse_manifest(manifest.read_bytes())
            except ValueError as error:
                raise store_error(f"the store's {MANIFEST_NAME} is {error}", "upload the folder again") from error
            fetched = {file.name for file in self.files}
            check_hashes(files, tuple(file for file in expected.files if file.name in fetched), progress)

    def _rest(self, file: StoredFile, have_bytes: int) -> Iterator[bytes]:
        """What the store has of a file after its first bytes, in blocks that come several at a time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            coming: deque[Future[bytes]] = deque()
            try:
                for begin in range(have_bytes, file.size_bytes, BLOCK_BYTES):
                    coming.append(pool.submit(self._block, file, begin))
                    if len(coming) == AT_ONCE:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            except exceptions.BaseError as error:
                raise _fault(error)(
                    f"{self.url}/{file.name} stopped at {have_bytes} bytes or later: {_words(error)}", "pull again"
                ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _block(self, file: StoredFile, begin: int) -> bytes:
        end = min(begin + BLOCK_BYTES, file.size_bytes)
        options: GetOptions = {"range": (begin, end)}
        if file.etag is not None:
            # Of the content that was listed: blocks of two uploads must not meet in one file.
            options["if_match"] = file.etag
        return obstore.get(self.store, file.name, options=options).bytes().to_bytes()


def open_object_store(url: str) -> ObjectStoreFetch:
    """List the folder at `url`.

    Raises:
        SourceAwayError: the store does not answer now.
        ModelStoreError: the folder cannot be read, or has no weights.
    """
    login = LOGINS.get(url.partition("://")[0], "its credentials")
    remedy = f"check the address, and that this process may read it: {login}"
    try:
        store = from_url(url, client_options=CLIENT, retry_config=RETRIES)
    except (exceptions.BaseError, ValueError) as error:
        raise store_error(f"{url} cannot be opened: {_words(error)}", remedy) from error
    try:
        entries = obstore.list_with_delimiter(store)["objects"]
    except exceptions.BaseError as error:
        make = store_error if _answers(store) else source_away
        raise make(f"{url} cannot be listed: {_words(error)}", remedy) from error
    return _listed(url, store, entries)


def _answers(store: ObjectStore) -> bool:
    """Whether a store that did not list a folder is there at all: then it refused to, or has none.

    Of a listing obstore tells neither a missing bucket nor a refused login from an outage; of a file it does.
    """
    try:
        obstore.head(store, "config.json")
    except LASTING:
        return True
    except exceptions.BaseError:
        return False
    return True


def _fault(error: Exception) -> Callable[[str, str], ModelStoreError]:
    return store_error if isinstance(error, LASTING) else source_away


def _words(error: Exception) -> str:
    """What an error says to people; obstore appends its own structures."""
    return str(error).partition("\n")[0]


def _listed(url: str, store: ObjectStore, entries: Sequence[ObjectMeta]) -> ObjectStoreFetch:
    by_name = {entry["path"].rpartition("/")[2]: entry for entry in entries}
    wanted = sorted(name for name in by_name if is_wanted(name, set(by_name)))
    if not any(name.endswith(".safetensors") for name in wanted):
        raise store_error(
            f"{url} has no safetensors weights", "name the folder that holds config.json and *.safetensors"
        )
    digest = hashlib.sha256()
    files = []
    for name in wanted:
        entry = by_name[name]
        digest.update(f"{name} {entry['size']} {entry['e_tag'] or entry['last_modified']}\n".encode())
        files.append(StoredFile(name=name, size_bytes=entry["size"], etag=entry["e_tag"]))
    return ObjectStoreFetch(url=url, store=store, files=tuple(files), revision=digest.hexdigest()[:REVISION_LETTERS])
