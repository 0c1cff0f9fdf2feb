"""Block every connection that leaves this machine.

Python imports a module of this name at start, so with this folder in PYTHONPATH the
block holds in every process that a test starts, notebook kernels included.
"""

import ipaddress
import socket


def _is_local(host):
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback or host == "0.0.0.0"
    except ValueError:
        return host == socket.gethostname()


def _refuse(host):
    raise OSError(f"the network is blocked in tests: {host}")


_connect, _getaddrinfo = socket.socket.connect, socket.getaddrinfo


def _checked_connect(self, address):
    if isinstance(address, tuple) and not _is_local(address[0]):
        _refuse(address[0])
    return _connect(self, address)


def _checked_getaddrinfo(host, *args, **kwargs):
    name = host.decode() if isinstance(host, bytes) else host
    if not _is_local(name):
        _refuse(name)
    return _getaddrinfo(host, *args, **kwargs)


socket.socket.connect = _checked_connect
socket.getaddrinfo = _checked_getaddrinfo
