"""The block itself: without it "runs offline" would prove nothing."""

import socket
import subprocess
import sys

import pytest


def test_this_process_cannot_reach_out():
    with pytest.raises(OSError, match="blocked"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_subprocesses_cannot_resolve_names():
    code = "import socket; socket.getaddrinfo('example.org', 80)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "the network is blocked in tests" in done.stderr


def test_loopback_stays_open():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(server.getsockname(), timeout=1).close()
