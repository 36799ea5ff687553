"""What a cache of KV blocks holds, by model and tenant, and which part of it somebody means.

What must not live here: Redis (cluster/state/blocks.py), where tenants' tags come from (cluster/local/kv_cache.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.core.tier.about import TierAbout
from cluster.core.tier.keys import BlockOwner, pattern

UNKNOWN = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What was found."""

    blocks: Mapping[BlockOwner, int]
    """How many, of each owner."""
    value_bytes: Mapping[str, int]
    """Of one block, by fingerprint; all of a fingerprint's are of one size."""
    abouts: Mapping[str, Sequence[TierAbout]]
    """By fingerprint; models of equal content share one. Empty where no replica has left a record lately."""

    def models(self, fingerprint: str) -> tuple[str, ...]:
        """The models whose blocks these are; empty where that is not known."""
        return tuple(sorted({about.model for about in self.abouts.get(fingerprint, ())}))

    @property
    def fingerprints(self) -> frozenset[str]:
        """All that were found."""
        return frozenset(owner.fingerprint for owner in self.blocks) | frozenset(self.abouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Part of a cache; None: all."""

    fingerprints: frozenset[str] | None = None
    tenant_tag: str | None = None

    def takes(self, owner: BlockOwner) -> bool:
        """Whether such blocks are meant."""
        return (self.fingerprints is None or owner.fingerprint in self.fingerprints) and (
            self.tenant_tag is None or owner.tenant_tag == self.tenant_tag
        )

    @property
    def pattern(self) -> bytes:
        """What to SCAN for; it may find more than is meant, never less."""
        one = next(iter(self.fingerprints)) if self.fingerprints is not None and len(self.fingerprints) == 1 else None
        return pattern(fingerprint=one, tenant_tag=self.tenant_tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The blocks of one fingerprint and tenant."""

    models: tuple[str, ...]
    """Empty where it is not known."""
    fingerprint: str
    dtype: str
    """`?` where it is not known."""
    tenant: str | None
    """None where nobody can say whose tag this is."""
    tag: str
    blocks: int
    tokens: int | None
    """None where nobody can say how many a block has."""
    size_bytes: int
    share_ratio: float
    """Of the bytes of all blocks in the cache."""


def rows(contents: Contents, tenants: Mapping[str, str], selection: Selection) -> tuple[Row, ...]:
    """The selected blocks by fingerprint and tenant, most bytes first.

    Args:
        contents: all of the cache.
        tenants: names by their tags.
        selection: what is meant.
    """
    sizes = {owner: count * contents.value_bytes.get(owner.fingerprint, 0) for owner, count in contents.blocks.items()}
    whole_bytes = sum(sizes.values())
    made = []
    for owner, count in contents.blocks.items():
        if not selection.takes(owner):
            continue
        about = next(iter(contents.abouts.get(owner.fingerprint, ())), None)
        size_bytes = sizes[owner]
        made.append(
            Row(
                models=contents.models(owner.fingerprint),
                fingerprint=owner.fingerprint,
                dtype=about.dtype if about else UNKNOWN,
                tenant=tenants.get(owner.tenant_tag),
                tag=owner.tenant_tag,
                blocks=count,
                tokens=count * about.block_tokens if about else None,
                size_bytes=size_bytes,
                share_ratio=size_bytes / whole_bytes if whole_bytes else 0.0,
            )
        )
    return tuple(sorted(made, key=lambda row: (-row.size_bytes, row.fingerprint, row.tag)))


def fingerprints_of(model: str, contents: Contents, known_models: Iterable[str]) -> frozenset[str] | None:
    """The fingerprints that a model's name, or a fingerprint itself, stands for.

    Args:
        model: what somebody wrote.
        contents: of the cache.
        known_models: of the configuration: they may have nothing there.

    Returns:
        None where there is no such model.
    """
    if model in contents.fingerprints:
        return frozenset({model})
    found = frozenset(each for each in contents.abouts if model in contents.models(each))
    return found if found or model in set(known_models) else None
