"""Imports without collections: collecting goes on afterwards, unless it was off before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from cluster.engine.warm.collecting import without_collections


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("was_on", [True, False])
def test_collecting_goes_on_as_before(was_on: bool) -> None:
    if not was_on:
        gc.disable()
    with without_collections():
        assert not gc.isenabled()
    assert gc.isenabled() is was_on


def test_what_was_made_meanwhile_is_kept_out_of_later_collections() -> None:
    before = gc.get_freeze_count()
    with without_collections():
        made = [[number] for number in range(1000)]
    assert gc.get_freeze_count() >= before + len(made)


def test_after_a_failed_import_too() -> None:
    with pytest.raises(ImportError), without_collections():
        raise ImportError("no such module")
    assert gc.isenabled()
