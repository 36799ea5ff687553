from __future__ import annotations

import pytest

from loadtest.client.sampling import memory_in, pools_in, replicas_in

TEXT = """# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1.5e+06
# TYPE longreach_endpoints gauge
longreach_endpoints{pool="short",state="ready"} 2
longreach_endpoints{pool="short",state="draining"} 1
longreach_endpoints{pool="long",state="ready"} 0
"""


def test_what_a_page_tells() -> None:
    assert memory_in(TEXT) == 1_500_000
    assert pools_in(TEXT) == {"short_replicas": 2, "long_replicas": 0}
    assert (memory_in(""), pools_in("")) == (0, {})


def test_nonsense_is_told() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser gives no reason
        memory_in("{")


def test_replicas_are_those_of_the_discovery() -> None:
    found = [{"targets": ["g"], "labels": {"replica": "short#a"}}, {"targets": ["g"], "labels": {}}]
    assert replicas_in(found) == ["short#a"]
    assert replicas_in({}) == []
