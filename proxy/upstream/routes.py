"""Where a URL leads, and what a request line says of it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from proxy.transport import Origin


class Route(NamedTuple):
    """The way to an origin: directly, or through a proxy that the environment names."""

    origin: Origin
    host: bytes
    proxy: str | None

    @classmethod
    def to(cls, url: SplitResult) -> Route:
        """Raises `ValueError`."""
        if url.scheme not in _PORTS or not url.hostname:
            raise ValueError("it has to begin with http:// or https:// and a host")
        origin = Origin(url.scheme, url.hostname, url.port or _PORTS[url.scheme])
        host = url.netloc.rpartition("@")[2]
        return cls(origin, host.encode("ascii" if host.isascii() else "idna"), _proxy_for(url))


_PORTS = {"http": 80, "https": 443}


def request_target(url: str) -> bytes:
    """Path and query as they are: httpx would encode them once more."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return target.encode()


def _proxy_for(url: SplitResult) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for a URL."""
    proxies = getproxies_environment()
    if not proxies or proxy_bypass(url.hostname or ""):
        return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def what_broke(error: Exception) -> str:
    """A network error for the log: its kind, and its words where it has any."""
    words = str(error).strip()
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
