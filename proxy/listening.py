"""The address that the server listens on, and the names under which it is reached."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DEFAULT_BIND = "127.0.0.1:8787"
DEFAULT_PORT = 8787
BACKLOG = 2048
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_FORM = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[A-Za-z0-9._-]*))(?::(?P<port>[0-9]+))?")
# Addresses of documentation: connecting a datagram socket sends nothing.
_SOMEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_SIOCGIFADDR = 0x8915


class BindError(Exception):
    """The server cannot listen there; the message is for people."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen. `host`: an IPv4 or IPv6 address without brackets, or a host name."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_unspecified
        return False

    @property
    def is_loopback(self) -> bool:
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"

    @property
    def url(self) -> str:
        """The URL under which others reach it, as far as this machine can tell."""
        host = next(own_addresses(), "127.0.0.1") if self.is_wildcard else self.host
        return f"http://{bracketed(host)}:{self.port}"


def bracketed(host: str) -> str:
    """A host as a URL and a Host header have it."""
    return f"[{host}]" if ":" in host else host


def parse_bind(text: str) -> Bind:
    """HOST:PORT, HOST, :PORT (every address) or PORT; IPv6 in brackets. Raises BindError."""
    if text.isascii() and text.isdigit():
        text = f"127.0.0.1:{text}"
    found = _FORM.fullmatch(text.strip())
    if not found or not text.strip():
        raise BindError(
            f"--bind {text}: give HOST:PORT, and IPv6 in brackets, for example [::1]:{DEFAULT_PORT}"
        )
    host = found["v6"] if found["v6"] is not None else found["host"] or "0.0.0.0"  # noqa: S104
    if found["v6"] is not None and not _is_ipv6(host):
        raise BindError(f"--bind {text}: {host!r} is not an IPv6 address")
    port = int(found["port"] or DEFAULT_PORT)
    if not 1 <= port <= 65535:
        raise BindError(f"--bind {text}: the port has to be between 1 and 65535")
    return Bind(host.lower(), port)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


_REASONS = {
    errno.EADDRINUSE: "is in use: stop what listens there, or choose another with --bind",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
    errno.EACCES: "may not be listened on by this user: choose a port above 1023 with --bind",
    errno.EAFNOSUPPORT: "is of a kind that this machine does not have",
}


def listen(bind: Bind) -> socket.socket:
    """A socket that listens there. Raises BindError."""
    try:
        found = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise BindError(f"{bind}: the host {bind.host!r} is unknown") from None
    family, _, _, _, address = found[0]
    listener = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Every address means IPv4 too, whatever the machine's default.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not bind.is_wildcard)
        listener.bind(address)
        # Listening from now on, not only bound: a second server is refused at once.
        listener.listen(BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        reason = _REASONS.get(error.errno or 0, f"cannot be listened on: {error.strerror}")
        raise BindError(f"{bind} {reason}") from None
    return listener


def allowed_hosts(bind: Bind) -> list[str]:
    """The values of the Host header that belong to an address that is listened on."""
    hosts = [*LOOPBACK]
    if bind.is_wildcard:
        hosts += [bracketed(address) for address in own_addresses()]
    else:
        hosts.append(bracketed(bind.host))
    if not bind.is_loopback:
        name = socket.gethostname().lower()
        hosts += [name, f"{name}.local", socket.getfqdn().lower()]
    return list(dict.fromkeys(host for host in hosts if host))


def own_addresses() -> Iterator[str]:
    """The addresses of this machine, the one that others are likely to use first.

    Nothing in the standard library lists them on every system: what each source knows is
    put together, and one that fails knows nothing.
    """
    seen = set()
    for source in (_outgoing, _of_interfaces, _of_name):
        with suppress(OSError, UnicodeError):
            for address in source():
                parsed = ipaddress.ip_address(address)
                if address not in seen and not parsed.is_loopback and not parsed.is_link_local:
                    seen.add(address)
                    yield address


def _outgoing() -> Iterator[str]:
    for family, somewhere in _SOMEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((somewhere, 9))
            yield str(probe.getsockname()[0])


def _of_interfaces() -> Iterator[str]:
    """Linux."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                request = struct.pack("256s", name.encode()[:15])
                yield socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24])
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        yield str(ipaddress.IPv6Address(int(line.split()[0], 16)))


def _of_name() -> Iterator[str]:
    for *_, address in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM):
        yield str(address[0]).partition("%")[0]
