"""A request as the API views see it: the raw bytes, and none of Django's parsing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest

if TYPE_CHECKING:
    from proxy.access import Caller
    from proxy.runtime import Runtime


class ApiRequest(HttpRequest):
    """Made by `fallbackproxy.handler.ApiHandler`. `raw_headers`: names in lower case, in order.

    `caller` is known once `proxy.views.admit` has been passed. `client_left`: nobody waits for
    the answer any more.
    """

    caller: Caller
    client_left = False

    def __init__(self, scope: dict[str, Any], body: bytes) -> None:
        # Not Django's own: it makes dictionaries of all kinds, and no API view looks into them.
        self.scope = scope
        self.method = scope["method"]
        self.path = self.path_info = scope["path"]
        self.raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.query: bytes = scope.get("query_string", b"")
        self.raw_path: str = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        self._body = body

    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.scope["state"]["runtime"]
        return runtime

    def give_body(self, body: bytes) -> None:
        self._body = body

    def take_body(self) -> bytes:
        """The body, once: nothing here holds on to it while the answer streams."""
        body, self._body = self._body, b""
        return body
