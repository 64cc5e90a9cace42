"""HTTP to the providers. Nobody else imports httpx.

Requests go out on `proxy.transport`. Where HTTP_PROXY and its kin name a proxy, and where a
transport was given, httpx does it: see `proxy.upstream.owned`.
"""

from proxy.upstream.client import UpstreamClient
from proxy.upstream.exchange import Exchange, Head

__all__ = ["Exchange", "Head", "UpstreamClient"]
