"""What a stream costs in memory whose client has stopped reading while its provider sends on."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.load import Job, request_of
from benchmarks.processes import usage_of
from benchmarks.servers import Server

STREAMS = 50
FLOOD = ("x-bench", "flood")
SETTLE = 2.0
"""Seconds until every buffer on the way is full."""


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float
    unit: str
    goal: str


def measure(server: Server, streams: int = STREAMS, seconds: float = SETTLE) -> Figure:
    """How much the server grows for each stream. What the kernel holds is not in it."""
    assert server.pid is not None
    headers = [*server.headers, FLOOD]
    request = request_of(Job(server.port, "/v1/messages", headers, "small_stream"))
    with ExitStack() as stack:
        before = usage_of(server.pid).rss
        for _ in range(streams):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(request)
            client.recv(1024)
        time.sleep(seconds)
        grown = usage_of(server.pid).rss - before
    return Figure("resident memory for each", grown * 1024 / streams, "KB", "bounded, < 1,024 KB")
