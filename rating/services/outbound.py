"""Requests to addresses that people gave: never into the operator's own network, unless that is allowed."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from urllib.parse import urlsplit

from django.conf import settings

SECONDS, SECONDS_IN_ALL = 10, 20
MOST_ANSWERED = 64 * 1024


class OutboundError(Exception):
    """Nothing was answered, or the address may not be asked; says why."""


class Checked(http.client.HTTPConnection):
    """Connects to the address that was checked: asking for the name again could give another one."""

    def __init__(self, host: str, port: int, address: str, secure: bool) -> None:
        super().__init__(host, port, timeout=SECONDS)
        self.address, self.secure = address, secure

    def connect(self) -> None:
        self.sock = socket.create_connection((self.address, self.port), self.timeout)
        if self.secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def abort(self) -> None:
        """Make whoever waits for the other side go on: an answer may come a byte at a time."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


def post_once(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer. No redirect is followed; at most 64 KiB are read and thrown away.

    Raises:
        OutboundError: the address is private, is not found, or does not answer in time.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    connection = Checked(host, port, find_address(host, port), secure)
    timer = threading.Timer(SECONDS_IN_ALL, connection.abort)
    timer.daemon = True
    timer.start()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    named = f"[{host}]" if ":" in host else host
    usual = port == (443 if secure else 80)
    try:
        connection.request("POST", path, body, {"Host": named if usual else f"{named}:{port}", **headers})
        answer = connection.getresponse()
        answer.read(MOST_ANSWERED)
        return answer.status
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise OutboundError(f"{type(error).__name__}: {error}") from error
    finally:
        timer.cancel()
        connection.close()


def find_address(host: str, port: int) -> str:
    """An address of the host, when all of its addresses are public. Raises OutboundError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutboundError(f"{host} is not found: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not settings.WEBHOOK_PRIVATE:
        for address in addresses:
            if not is_public(address):
                raise OutboundError(f"{host} is {address}, which is no public address.")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether the address is of the public internet, also behind IPv6's ways of writing IPv4."""
    read = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(read, ipaddress.IPv6Address):
        inner = read.ipv4_mapped or read.sixtofour
        if inner is None and read in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(read) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return read.is_global and not read.is_multicast
