"""What of a Redis address is shown, and which server the options name."""

from __future__ import annotations

import pytest

from cluster.core.errors import SetupError
from cluster.kubernetes.redis_address import UNREADABLE, is_cluster_name, is_readable, named_server, shown
from cluster.state.login import StateServer


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user:hunter2@host:6379/0", "redis://host:6379/0"),
        ("redis://:hunt@er2@host", "redis://host"),
        ("rediss://:hunter2@[::1]:6380/1", "rediss://[::1]:6380/1"),
        ("redis://host?password=hunter2", "redis://host"),
        ("redis://host/0#hunter2", "redis://host/0"),
        ("unix:///run/redis.sock?password=hunter2", "unix:///run/redis.sock"),
        # Passwords that are not percent-encoded: what looks like the host is a part of them.
        ("redis://:hunt/er2@host", UNREADABLE),
        ("redis://:hunt?er2@host", UNREADABLE),
        ("redis://:hunt#er2@host", UNREADABLE),
        ("redis://user:hunt/er2@host", UNREADABLE),
        ("redis://user:1234/hunter2@host", UNREADABLE),
        ("redis://user:1234?hunter2@host", UNREADABLE),
        ("redis://[hunter2@host", UNREADABLE),
        ("hunter2", UNREADABLE),
    ],
)
def test_no_part_of_a_password_is_shown(url: str, text: str) -> None:
    assert shown(url) == text
    assert is_readable(url) == (text != UNREADABLE)
    is_cluster_name(url, "longreach")


def test_the_password_comes_from_a_variable() -> None:
    secrets = {"NAME": "hunter2"}.get
    assert named_server("redis://:x@host", None, secrets) == StateServer(url="redis://:x@host")
    assert named_server("redis://host/1", "NAME", secrets) == StateServer(url="redis://host/1", password_env="NAME")
    with_user = StateServer(url="redis://host", user="a@b", password_env="NAME")
    assert named_server("redis://a%40b@host", "NAME", secrets) == with_user
    with pytest.raises(SetupError, match="leave one of them out"):
        named_server("redis://:x@host", "NAME", secrets)
    with pytest.raises(SetupError, match="OTHER is not set"):
        named_server("redis://host", "OTHER", secrets)


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("redis", True),
        ("redis.longreach", True),
        ("redis.longreach.svc", True),
        ("redis.other.svc.cluster.local", True),
        ("redis.example.com", False),
        ("10.0.0.1", False),
        ("[::1]", False),
        ("localhost", False),
    ],
)
def test_names_of_services_are_known(host: str, is_own: bool) -> None:
    assert is_cluster_name(f"redis://{host}:6379", "longreach") is is_own
