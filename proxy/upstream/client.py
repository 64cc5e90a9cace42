"""What the relay sends its requests through."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx

from proxy.transport import Pool
from proxy.upstream.direct import DirectExchange
from proxy.upstream.exchange import Exchange, FailedExchange
from proxy.upstream.owned import OwnedExchange
from proxy.upstream.routes import Route
from proxy.wire import UpstreamRequest

CLOSE_GRACE = 5.0


class UpstreamClient:
    """Sends requests to providers; one a worker, for all of them."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` replaces the network (tests)."""
        self._given = transport
        # Made here, at startup: loading the certificates takes a tenth of a second.
        self._tls = httpx.create_ssl_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        self.pool = Pool(self._tls)
        self._through_proxies: dict[str, httpx.AsyncBaseTransport] = {}
        self._owned: set[OwnedExchange] = set()
        self._routes: dict[tuple[str, str], Route] = {}

    def send(self, request: UpstreamRequest, connect_limit: float) -> Exchange:
        """Begin an exchange. `connect_limit` in seconds."""
        try:
            route = self._route_to(request.url)
        except ValueError as error:
            return FailedExchange(f"the URL of the provider is not valid: {error}")
        if self._given is not None:
            return self._send_owned(self._given, request, connect_limit)
        if route.proxy is not None:
            return self._send_owned(self._through(route.proxy), request, connect_limit)
        return DirectExchange(self.pool, route, request, connect_limit)

    @property
    def open_exchanges(self) -> int:
        return len(self._owned) + self.pool.busy

    async def close(self) -> None:
        """Abandon what is still open, wait until it is closed, close the pools."""
        self.pool.close()
        tasks = [exchange.task for exchange in self._owned]
        for exchange in list(self._owned):
            exchange.abandon()
        if tasks:
            _, still_connecting = await asyncio.wait(tasks, timeout=CLOSE_GRACE)
            for task in still_connecting:
                task.cancel()
        for through in self._through_proxies.values():
            await through.aclose()
        self._through_proxies.clear()

    def _send_owned(
        self, transport: httpx.AsyncBaseTransport, request: UpstreamRequest, connect_limit: float
    ) -> OwnedExchange:
        exchange = OwnedExchange(transport, request, connect_limit)
        self._owned.add(exchange)
        exchange.task.add_done_callback(lambda task: self._owned.discard(exchange))
        return exchange

    def _through(self, proxy: str) -> httpx.AsyncBaseTransport:
        through = self._through_proxies.get(proxy)
        if through is None:
            through = self._through_proxies[proxy] = httpx.AsyncHTTPTransport(
                verify=self._tls,
                proxy=proxy,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=256),
            )
        return through

    def _route_to(self, url: str) -> Route:
        """Where a URL leads. Found out once: to ask the environment takes 0.1 ms."""
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = Route.to(parts)
        return route
