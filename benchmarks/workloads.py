"""The workloads, and how each server is led to the behaviour that one wants."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.payloads import MODEL
from benchmarks.processes import Generator, Usage
from benchmarks.servers import DIRECT, LITELLM, NGINX, OURS, OURS_OPENAI, Server

REFUSE = ("x-bench-refuse", "1")
PACED = ("x-bench", "paced")
LITELLM_STREAMS = 50
LITELLM_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of load. `servers`: who takes part in it."""

    name: str
    title: str
    body: str
    connections: int
    servers: tuple[str, ...] = (DIRECT, OURS, NGINX, LITELLM)
    streams: bool = False
    refused_first: bool = False
    openai: bool = False
    seconds: float = 2.0
    warm_up: float = 0.4

    @property
    def tells_latency(self) -> bool:
        """Whether the servers are not saturated: else what a call waits for is its turn."""
        return self.connections == 1 or self.streams


WORKLOADS = (
    Workload("latency", "W1 on one connection", "small", 1),
    Workload("W1", "1 KB in, 1 KB out", "small", 32),
    Workload("W2", "256 KB in, 300 events out at full speed", "large", 8),
    Workload(
        "W4",
        "W1, refused with 429 by the first upstream",
        "small",
        32,
        servers=(OURS, NGINX, LITELLM),
        refused_first=True,
    ),
    Workload(
        "openai",
        "W2, refused by the first upstream, answered in Chat Completions",
        "large_plain",
        8,
        servers=(OURS_OPENAI, LITELLM),
        refused_first=True,
        openai=True,
    ),
    Workload(
        "W3",
        "500 streams, 256 KB in, an event every 100 ms each",
        "large",
        500,
        streams=True,
        seconds=5.0,
        warm_up=1.5,
    ),
)


@dataclass(slots=True)
class Measured:
    """One server under one workload for some seconds. Latencies in milliseconds, memory in MB.

    `cpu` and `around` in CPU seconds: of the server, and of load generator and mock upstream.
    """

    server: str
    workload: str
    calls: int
    seconds: float
    cpu: float
    around: float
    p50: float
    p99: float
    events: int = 0
    rss: float = 0.0
    peak: float = 0.0
    error: str = ""

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds if self.seconds else 0.0

    @property
    def per_cpu_second(self) -> float:
        """Calls per second of the server's CPU."""
        return self.calls / self.cpu if self.cpu else 0.0

    @property
    def busy(self) -> float:
        """Part of a core that the server used."""
        return self.cpu / self.seconds if self.seconds else 0.0

    @property
    def load(self) -> float:
        """Part of their core that load generator and mock upstream used: less than 1, if they
        were not what limited the rate."""
        return self.around / self.seconds if self.seconds else 0.0

    @property
    def per_event(self) -> float:
        """Microseconds of the server's CPU for one event of a paced stream."""
        return self.cpu / self.events * 1e6 if self.events else 0.0


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run takes: factors on what the workloads say."""

    time: float = 1.0
    streams: float = 1.0
    rounds: int = 5
    only: frozenset[str] = field(default_factory=frozenset)


def measure(
    generator: Generator, server: Server, workload: Workload, length: Length = Length()
) -> Measured:
    """Put `server` under `workload` once."""
    result, usage, around = generator.run(_job(server, workload, length), server.pid)
    return _measured(server, workload, result, usage, around)


def _job(server: Server, workload: Workload, length: Length) -> dict[str, Any]:
    path, model, headers = _route(server, workload)
    connections, patience = workload.connections, 1.0
    if server.name == LITELLM:
        # It would need minutes to open 500 streams, and has few calls to show for a second.
        connections = min(connections, LITELLM_STREAMS if workload.streams else 8)
        patience = LITELLM_PATIENCE
    if workload.streams:
        connections = max(2, int(connections * length.streams))
    return {
        "port": server.port,
        "path": path,
        "model": model,
        "headers": [*server.headers, *headers],
        "body": workload.body,
        "connections": connections,
        "streams": workload.streams,
        "seconds": workload.seconds * length.time * patience,
        "warm_up": workload.warm_up * length.time * patience,
    }


def _route(server: Server, workload: Workload) -> tuple[str, str, list[tuple[str, str]]]:
    """Path, model and headers that lead to what the workload wants."""
    headers = [PACED] if workload.streams else []
    if server.name == LITELLM:
        if workload.openai:
            return "/v1/messages", "refuse-openai", []
        if workload.refused_first:
            return "/v1/messages", "refuse", []
        return "/v1/messages", "paced" if workload.streams else MODEL, []
    if server.name in (NGINX, DIRECT):
        folder = "/refuse" if workload.refused_first else "/second"
        return f"{folder}/v1/messages", MODEL, headers
    if workload.refused_first:
        headers = [*headers, REFUSE]
    return "/v1/messages", MODEL, headers


def _measured(
    server: Server, workload: Workload, result: Mapping[str, Any], usage: Usage, around: float
) -> Measured:
    latencies = sorted(result["latencies"])
    return Measured(
        server=server.name,
        workload=workload.name,
        calls=result["calls"],
        seconds=result["seconds"],
        cpu=usage.cpu,
        around=around,
        p50=_percentile(latencies, 0.50) * 1e3,
        p99=_percentile(latencies, 0.99) * 1e3,
        events=result["events"],
        rss=usage.rss,
        peak=usage.peak,
        error=result["error"] if result["errors"] else "",
    )


def _percentile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def median(values: list[float]) -> float:
    return statistics.median(values) if values else 0.0
