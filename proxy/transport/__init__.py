"""HTTP/1.1 over the event loop's own transports: kept connections, one request at a time on each.

What `proxy.upstream` hands its requests to, unless a proxy of the environment is in between. A
connection belongs to nobody but its reply: abandoning that closes it, at once and from anywhere,
so there is nothing that a cancellation could leave behind. Knows neither httpx nor providers.
"""

from proxy.transport.connection import Connection
from proxy.transport.dialing import Origin
from proxy.transport.pool import Pool
from proxy.transport.reply import ConnectionBroken, Reply

__all__ = ["Connection", "ConnectionBroken", "Origin", "Pool", "Reply"]
