"""Child processes: pinned to a core, measured through /proc, ended by their own process group."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a process and all its children: CPU seconds, resident set now and at its highest (MB)."""

    cpu: float
    rss: float
    peak: float


@contextmanager
def running(
    command: list[str],
    core: int | None,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path = ROOT,
    log: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A process on `core`, in a group of its own; the group is ended at the end."""
    output = log.open("w") if log else None
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=output or subprocess.PIPE,
        stderr=subprocess.STDOUT if output else None,
        text=True,
        start_new_session=True,
        preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        yield process
    finally:
        _end(process)
        for stream in (process.stdin, process.stdout, output):
            if stream is not None:
                stream.close()


def _end(process: subprocess.Popen[str]) -> None:
    for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def usage_of(pid: int) -> Usage:
    """What a process and its children have used up to now. `rss` is the largest of them."""
    cpu, rss, peak = 0.0, 0.0, 0.0
    for member in _tree(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        cpu += (int(fields[11]) + int(fields[12])) / _TICK
        rss = max(rss, _megabytes(status, "VmRSS:"))
        peak = max(peak, _megabytes(status, "VmHWM:"))
    return Usage(cpu, rss, peak)


def _megabytes(status: str, name: str) -> float:
    line = next((line for line in status.splitlines() if line.startswith(name)), "")
    return int(line.split()[1]) / 1024 if line else 0.0


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:
            continue
        for child in found:
            yield from _tree(int(child))


class Generator:
    """The load generator: one job at a time, with everybody's usage taken around it."""

    def __init__(self, process: subprocess.Popen[str], upstream: int) -> None:
        """`upstream`: the process id of the mock upstream, which shares the generator's core."""
        self._process = process
        self._around = (process.pid, upstream)

    def run(
        self, job: Mapping[str, Any], server: int | None
    ) -> tuple[dict[str, Any], Usage, float]:
        """The result of a job; the server's usage while the load was steady; and the CPU seconds
        of generator and upstream together."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        before = after = Usage(0.0, 0.0, 0.0)
        around = 0.0
        while True:
            line = self._read()
            if "steady" in line:
                before = usage_of(server) if server else before
                around -= self._used_around()
            elif "over" in line:
                after = usage_of(server) if server else after
                around += self._used_around()
            else:
                return line, Usage(after.cpu - before.cpu, after.rss, after.peak), around

    def _used_around(self) -> float:
        return sum(usage_of(pid).cpu for pid in self._around)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator has ended")
        document: dict[str, Any] = json.loads(line)
        return document


@contextmanager
def load_generator(core: int, upstream: int) -> Iterator[Generator]:
    with running([sys.executable, "-m", "benchmarks.load"], core) as process:
        yield Generator(process, upstream)


@contextmanager
def mock_upstream(core: int) -> Iterator[tuple[int, int]]:
    """Its port and its process id."""
    with running([sys.executable, "-m", "benchmarks.upstream"], core) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid


def wait_for(condition: Any, what: str, seconds: float) -> float:
    """Poll until `condition()`; returns the seconds that it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise RuntimeError(f"after {seconds} s still not: {what}")
        time.sleep(0.01)
    return time.monotonic() - begin
