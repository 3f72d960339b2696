"""With this folder on PYTHONPATH a Python process reaches this machine only: tests that need no network prove it."""

import socket

LOCAL = ("127.0.0.1", "::1", "localhost", "")
_connect = socket.socket.connect
_getaddrinfo = socket.getaddrinfo


def _check(host):
    if isinstance(host, (str, bytes)) and (host.decode() if isinstance(host, bytes) else host) not in LOCAL:
        raise OSError(f"the network is off in this test; something asked for {host}")


def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        _check(address[0])
    return _connect(self, address)


def getaddrinfo(host, *arguments, **options):
    _check(host)
    return _getaddrinfo(host, *arguments, **options)


socket.socket.connect = connect
socket.getaddrinfo = getaddrinfo
