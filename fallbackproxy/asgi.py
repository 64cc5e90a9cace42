"""The ASGI application: API paths to the slim handler, all else to Django."""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fallbackproxy.settings")
django_application = get_asgi_application()

from django.conf import settings  # noqa: E402 (needs the variable)
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware  # noqa: E402

from fallbackproxy.handler import ApiHandler, Receive, Send  # noqa: E402 (needs Django)
from proxy.runtime import Runtime  # noqa: E402

# Here and not around everything: the API does not care what a reverse proxy says of its client.
pages = ProxyHeadersMiddleware(django_application, settings.FORWARDED_ALLOW_IPS)  # type: ignore[arg-type]

API_PREFIXES = ("/v1/", "/api/")
API_PATHS = frozenset({"/", "/healthz", "/metrics"})


class Application:
    """Dispatches by path, and owns the runtime from startup to shutdown."""

    def __init__(self) -> None:
        self._api = ApiHandler()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["path"] in API_PATHS or scope["path"].startswith(API_PREFIXES):
            await self._api(scope, receive, send)
        else:
            await pages(scope, receive, send)  # type: ignore[arg-type]

    async def _lifespan(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        runtime: Runtime | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    runtime = Runtime()
                    await runtime.start()
                except Exception as error:
                    reason = f"{type(error).__name__}: {error}"
                    await send({"type": "lifespan.startup.failed", "message": reason})
                    raise
                scope["state"]["runtime"] = runtime
                await send({"type": "lifespan.startup.complete"})
            else:
                if runtime is not None:
                    await runtime.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


application = Application()
