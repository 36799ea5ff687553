"""What the kernel's tables say of listening sockets."""

from __future__ import annotations

import os
import socket

from cluster.sockets import Listener, free_port, is_loopback, is_port_free, listeners_of, owner_of_port


def test_own_listener_is_found_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (mine,) = [listener for listener in listeners_of([os.getpid()]) if listener.port == port]
        assert mine.address == "127.0.0.1"
        assert mine.is_loopback
        owner = owner_of_port(port)
        assert owner is not None
        assert owner.pid == os.getpid()
        assert not is_port_free("127.0.0.1", port)
    assert is_port_free("127.0.0.1", port)
    assert owner_of_port(port) is None


def test_wildcard_is_not_loopback() -> None:
    for address, expected in {
        "0.0.0.0": False,
        "::": False,
        "127.0.0.2": True,
        "::1": True,
        "::ffff:127.0.0.1": True,
        "::ffff:10.0.0.1": False,
        "192.0.2.2": False,
    }.items():
        assert Listener(address=address, port=1, inode=1).is_loopback is expected, address


def test_a_host_may_be_this_machines_own() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.2", "::1"))
    assert not any(is_loopback(host) for host in ("", "gateway", "localhost.example", "10.0.0.1", "0.0.0.0"))


def test_free_port_is_free() -> None:
    assert is_port_free("127.0.0.1", free_port())
