"""A model hub: what a repository holds, and bringing it here without its code.

What lives here: the listing through huggingface_hub, which files are wanted, their download and their check. What
must not: the folder they land in. Only weights as safetensors, JSON and tokenizer files come: a pickle (*.bin, *.pt)
runs code when it is opened and a *.py runs when `trust_remote_code` is set, so neither is ever fetched.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cluster.models.faults import source_away, store_error
from cluster.models.ranged_download import download

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

    from cluster.models.progress import Progress

PROBE_TIMEOUT_S = 5.0
"""A hub that has not answered its smallest question by then is taken as out of reach."""
WANTED_SUFFIXES = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken"})
WANTED_NAMES = frozenset({"LICENSE", "NOTICE"})
SMALL_SUFFIXES = frozenset({".json", ".jinja"})
"""What a card is read from, without the weights."""
MAX_FILES = 1_000
"""The largest open models have a few hundred shards; more is not a model."""
GIVE_ACCESS = (
    "set HF_TOKEN_PATH to a file that holds a token which may read it, and nothing else (in Kubernetes: a key of a "
    "Secret, mounted as a file)"
)
REFUSED = frozenset({401, 403})
AIR_GAP_REMEDY = "run `longreach models pull` once where the hub can be reached, and copy the model store's folder here"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """How to reach the hub. None: the client library's own default.

    `token_file` holds the access token for gated models; without it no token is sent. `offline` asks only
    the client library's cache in `cache_dir`, where other programs may have put the model.
    """

    endpoint: str | None = None
    token_file: Path | None = None
    cache_dir: Path | None = None
    offline: bool = False
    probe_timeout_s: float = PROBE_TIMEOUT_S

    def token(self) -> str | bool:
        """The token, or False for none (None would let the client library search the machine for one).

        Raises:
            ModelStoreError: the token file cannot be read.
        """
        if self.token_file is None:
            return False
        try:
            return self.token_file.read_text(encoding="utf-8").strip() or False
        except (OSError, UnicodeDecodeError) as error:
            raise store_error(
                f"the hub token file {self.token_file} cannot be read: {error}",
                "set HF_TOKEN_PATH to a readable file that holds the token alone",
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One wanted file of a repository: a hash of its content is known, sha256 (LFS) or git's own."""

    name: str
    size_bytes: int
    sha256: str | None
    git_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubListing:
    """What a repository holds at one commit, as far as it is wanted."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]

    @property
    def weights_bytes(self) -> int:
        """Bytes of the safetensors files."""
        return sum(file.size_bytes for file in self.files if file.name.endswith(".safetensors"))


def list_repository(repository: str, revision: str | None, settings: HubSettings) -> HubListing:
    """Ask the hub what the repository holds.

    Raises:
        ModelStoreError: the hub cannot be reached, refuses, or the repository has no safetensors weights.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi(endpoint=settings.endpoint, token=settings.token())
    try:
        info = api.model_info(repository, revision=revision, files_metadata=True, timeout=settings.probe_timeout_s)
    except GatedRepoError as error:
        raise store_error(
            f"{repository} is gated on the model hub",
            f"accept its licence on the hub's page, and {GIVE_ACCESS}",
        ) from error
    except RepositoryNotFoundError as error:
        raise store_error(
            f"the model hub has no {repository}, or it is private",
            f"check the spelling (organisation/name); for a private model {GIVE_ACCESS}",
        ) from error
    except RevisionNotFoundError as error:
        raise store_error(
            f"{repository} has no revision {revision!r}", "name a branch, tag or commit that its page on the hub shows"
        ) from error
    except Exception as error:
        # The client's transport is a dependency of its own (httpx2 today), with no common root for its errors.
        if getattr(getattr(error, "response", None), "status_code", None) in REFUSED:
            raise store_error(f"the model hub refuses {repository}: {error}", GIVE_ACCESS) from error
        raise source_away(
            f"the model hub cannot be asked for {repository}: {error}",
            f"check the network and the hub endpoint (HF_ENDPOINT names a mirror); without a network: {AIR_GAP_REMEDY}",
        ) from error
    return _listing(repository, info.sha or revision or "main", info.siblings or [])


def _listing(repository: str, commit: str, siblings: list[RepoSibling]) -> HubListing:
    names = {sibling.rfilename for sibling in siblings}
    files = tuple(
        HubFile(
            name=sibling.rfilename,
            size_bytes=sibling.size or 0,
            sha256=sibling.lfs.sha256 if sibling.lfs else None,
            git_id=None if sibling.lfs else sibling.blob_id,
        )
        for sibling in siblings
        if is_wanted(sibling.rfilename, names)
    )
    if not any(file.name.endswith(".safetensors") for file in files):
        raise store_error(
            f"{repository} has no safetensors weights (pickled weights are never loaded: opening one runs code)",
            "choose a repository that publishes *.safetensors",
        )
    if len(files) > MAX_FILES:
        raise store_error(f"{repository} lists {len(files)} files, over {MAX_FILES}", "choose another repository")
    return HubListing(repository=repository, commit=re.sub(r"[^A-Za-z0-9._-]", "-", commit), files=files)


def is_wanted(name: str, names: set[str]) -> bool:
    """Whether a repository's file is part of the model as vLLM loads it. Sub-folders never are."""
    path = PurePosixPath(name)
    if len(path.parts) != 1 or name.startswith("."):
        return False
    if name.startswith("consolidated") and names & {"model.safetensors", "model.safetensors.index.json"}:
        return False  # the same weights a second time, in the publisher's own format
    return path.suffix in WANTED_SUFFIXES or name in WANTED_NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFetch:
    """A repository at one commit, ready to come."""

    listing: HubListing
    settings: HubSettings

    @property
    def revision(self) -> str:
        """The commit."""
        return self.listing.commit

    @property
    def peak_bytes(self) -> int:
        """All wanted files; each is downloaded in place."""
        return sum(file.size_bytes for file in self.listing.files)

    def into(self, files: Path, work: Path, progress: Progress) -> None:
        """Download every wanted file and check its hash; files that are there already were checked before."""
        done_bytes = 0
        for file in self.listing.files:
            if not (files / file.name).exists():
                fetch_file(file, work / file.name, self, done_bytes=done_bytes, progress=progress)
                (work / file.name).rename(files / file.name)
            done_bytes += file.size_bytes

    def only_small(self) -> HubFetch:
        """The same without weights: enough for a card."""
        small = tuple(file for file in self.listing.files if PurePosixPath(file.name).suffix in SMALL_SUFFIXES)
        listing = HubListing(repository=self.listing.repository, commit=self.listing.commit, files=small)
        return HubFetch(listing=listing, settings=self.settings)


def fetch_file(file: HubFile, target: Path, fetch: HubFetch, *, done_bytes: int, progress: Progress) -> None:
    """Download one file and compare it with the hash that the hub's listing gave.

    Raises:
        ModelStoreError: it cannot be downloaded, or its content is not what the listing promised.
    """
    from huggingface_hub import hf_hub_url

    listing, settings = fetch.listing, fetch.settings
    url = hf_hub_url(listing.repository, file.name, revision=listing.commit, endpoint=settings.endpoint)
    token = settings.token()
    total_bytes = fetch.peak_bytes
    download(
        url,
        target,
        size_bytes=file.size_bytes,
        headers={"Authorization": f"Bearer {token}"} if token else {},
        report=lambda have_bytes: progress("downloading", done_bytes + have_bytes, total_bytes),
    )
    if not _content_matches(file, target):
        target.unlink()
        raise store_error(
            f"{url} brought other content than the hub's listing promised",
            "pull again; if it stays, a proxy or mirror on the way changes files: use another endpoint",
        )


def _content_matches(file: HubFile, path: Path) -> bool:
    if file.sha256 is None and file.git_id is None:
        return True  # a mirror that lists no hashes: the size was checked
    if file.sha256 is not None:
        digest = hashlib.sha256()
        expected = file.sha256
    else:
        # Files outside LFS carry git's blob id, sha1 over "blob SIZE NUL content": good for finding damage.
        digest = hashlib.sha1(f"blob {file.size_bytes}\0".encode(), usedforsecurity=False)
        expected = file.git_id or ""
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == expected
