"""The Redis that holds KV blocks, as an operator sees it: counting blocks, removing them, the server's own figures.

Every command is bounded in time and in the number of keys, so that a server full of blocks goes on serving replicas
meanwhile. What must not live here: reading and writing blocks (cluster/engine/tier), whose they are and what a row of
the result means (cluster/core/tier/contents.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.retry import Retry

from cluster.core.errors import SetupError
from cluster.core.tier.about import TierAbout
from cluster.core.tier.contents import Contents, Selection
from cluster.core.tier.keys import EVERYTHING, BlockOwner, about_fingerprint, owner_of

CONNECT_S = 3.0
COMMAND_S = 10.0
"""One SCAN or UNLINK takes milliseconds; a server that swaps, or is stopped, must not hang the command."""
SCAN_KEYS = 1_000
"""Keys of one SCAN, and at most about so many in one UNLINK: a millisecond of the server's time."""
SCANS_MAX = 10_000_000
"""Calls of one pass, far beyond any server: SCAN promises to end, and this command must."""
ABOUTS_MAX = 10_000
"""Records read of what fingerprints are: one for each model and kind of engine, so there are never nearly as many."""
ANSWERED_TOO_LATE = "did not answer in time"

Progress = Callable[[int], None]
"""Called with how many keys were looked at, now and then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheServer:
    """Where KV blocks are, and how to log in."""

    url: str
    user: str | None = None
    password: str | None = None
    ca_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFigures:
    """What the server says of itself; everything since its start, over all that is in it."""

    used_bytes: int
    max_bytes: int
    """0: no limit."""
    policy: str
    keys: int
    hits: int
    misses: int
    evicted_keys: int
    expired_keys: int


class BlockStore:
    """A connection for one command. Every method raises SetupError when the server cannot be used."""

    def __init__(self, server: CacheServer) -> None:
        self._url = server.url
        tls: dict[str, Any] = {"ssl_ca_certs": server.ca_file} if server.url.startswith("rediss://") else {}
        self._redis = Redis.from_url(
            server.url,
            username=server.user,
            password=server.password,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=COMMAND_S,
            retry=Retry(NoBackoff(), 0),
            # A user who may do little else may not greet with more either.
            protocol=2,
            driver_info=None,
            **tls,
        )

    def close(self) -> None:
        """Hang up."""
        self._redis.close()

    def figures(self) -> ServerFigures:
        """What the server says of itself."""
        memory, stats = self._do(self._redis.info, "memory"), self._do(self._redis.info, "stats")
        return ServerFigures(
            used_bytes=int(memory["used_memory"]),
            max_bytes=int(memory["maxmemory"]),
            policy=str(memory["maxmemory_policy"]),
            keys=self.keys(),
            hits=int(stats["keyspace_hits"]),
            misses=int(stats["keyspace_misses"]),
            evicted_keys=int(stats["evicted_keys"]),
            expired_keys=int(stats["expired_keys"]),
        )

    def keys(self) -> int:
        """Keys of all kinds: how far a scan has to go."""
        found = self._do(self._redis.info, "keyspace")
        database = self._redis.connection_pool.connection_kwargs.get("db") or 0
        return int(found.get(f"db{database}", {}).get("keys", 0))

    def contents(self, on_looked_at: Progress = lambda _: None) -> Contents:
        """Count all blocks, and read what is known of their fingerprints."""
        blocks: Counter[BlockOwner] = Counter()
        samples: dict[str, bytes] = {}
        about_keys: set[bytes] = set()
        for page in self._pages(EVERYTHING, on_looked_at):
            for key in page:
                owner = owner_of(key)
                if owner is not None:
                    blocks[owner] += 1
                    samples[owner.fingerprint] = key
                elif about_fingerprint(key) is not None and len(about_keys) < ABOUTS_MAX:
                    about_keys.add(key)
        return Contents(blocks=blocks, value_bytes=self._value_bytes(samples), abouts=self._abouts(sorted(about_keys)))

    def remove(self, selection: Selection, on_looked_at: Progress = lambda _: None) -> int:
        """Remove the selected blocks; how many there were."""
        removed = 0
        for page in self._pages(selection.pattern, on_looked_at):
            names = [key for key in page if (owner := owner_of(key)) is not None and selection.takes(owner)]
            if names:
                # The server frees the memory in a thread of its own.
                removed += self._do(self._redis.unlink, *names)
        return removed

    def _pages(self, pattern: bytes, on_looked_at: Progress) -> Iterator[list[bytes]]:
        """Keys in pages, each key once unless the server grows or shrinks its table meanwhile: then rarely twice."""
        cursor, looked_at = 0, 0
        for _ in range(SCANS_MAX):
            cursor, page = self._do(self._redis.scan, cursor, match=pattern, count=SCAN_KEYS)
            looked_at += SCAN_KEYS
            on_looked_at(looked_at)
            yield page
            if not cursor:
                return
        raise SetupError(f"{self._url} goes on listing keys without an end", "is it a Redis or a Valkey?")

    def _value_bytes(self, samples: dict[str, bytes]) -> dict[str, int]:
        """The size of one block of each fingerprint; 0 where it is gone by now."""
        return {fingerprint: self._do(self._redis.strlen, key, wrong_type=0) for fingerprint, key in samples.items()}

    def _abouts(self, keys: Iterable[bytes]) -> dict[str, list[TierAbout]]:
        found: dict[str, list[TierAbout]] = {}
        for key in keys:
            text = self._do(self._redis.get, key)
            fingerprint = about_fingerprint(key)
            if not isinstance(text, bytes) or fingerprint is None:
                continue
            try:
                found.setdefault(fingerprint, []).append(TierAbout.decode(text))
            except ValueError:
                continue  # another version's, or nobody's: the blocks are shown by their fingerprint
        return found

    def _do(self, command: Callable[..., Any], *arguments: Any, wrong_type: Any = None, **options: Any) -> Any:
        """One command; `wrong_type` stands for what is under a key that somebody else uses for something else.

        Raises:
            SetupError: the server is away, or refuses it.
        """
        try:
            return command(*arguments, **options)
        except (AuthenticationError, NoPermissionError) as error:
            raise SetupError(
                f"the server of KV blocks at {self._url} refuses: {error}",
                "check redis.cache_user and redis.cache_password_*; for `longreach cache` the user needs INFO, SCAN, "
                "STRLEN, GET and UNLINK on kvb:*",
            ) from error
        except (RedisError, OSError) as error:
            if str(error).startswith("WRONGTYPE"):
                return wrong_type
            raise SetupError(
                f"the server of KV blocks at {self._url} cannot be asked: {error or ANSWERED_TOO_LATE}",
                "see that it runs and that redis.cache_url reaches it from here (`longreach status`, `longreach logs "
                "cache`)",
            ) from error
