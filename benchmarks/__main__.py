"""Measures the proxy beside its references, in one run.

    python -m benchmarks [--short] [--litellm VENV] [--rounds N] [--only W1,W2] [--json FILE]

Everything is on the loopback interface: servers on one core, load generator and mock upstream on
another. Rounds are interleaved; medians and spreads are printed, and written to a file as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import report, servers, slow_reader
from benchmarks.processes import ROOT, load_generator, mock_upstream
from benchmarks.servers import Server
from benchmarks.workloads import WORKLOADS, Length, Measured, measure


def main() -> int:
    arguments = _arguments()
    length = _length(arguments)
    proxy_core, load_core = _cores()
    results: list[Measured] = []
    with ExitStack() as stack:
        upstream, upstream_pid = stack.enter_context(mock_upstream(load_core))
        generator = stack.enter_context(load_generator(load_core, upstream_pid))
        found = _start(stack, arguments, proxy_core, upstream)
        for number in range(length.rounds):
            for workload in WORKLOADS:
                if length.only and workload.name not in length.only:
                    continue
                # Each server takes its turn at being the first.
                turn = number % len(found)
                for server in [*found[turn:], *found[:turn]]:
                    if server.name in workload.servers:
                        result = measure(generator, server, workload, length)
                        results.append(result)
                        report.progress(number, result)
        starts = {server.name: server.start_seconds for server in found if server.pid}
        document = report.summary(results, starts)
        if not length.only or "slow" in length.only:
            ours = next(server for server in found if server.name == servers.OURS)
            document["slow_reader"] = asdict(slow_reader.measure(ours))
    if not length.only or "micro" in length.only:
        document["micro"] = _micro(proxy_core, short=arguments.short)
    print(report.table(document))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if any(result.error for result in results if _is_ours(result)) else 0


def _micro(core: int, *, short: bool) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.micro", *(["--short"] if short else [])]
    done = subprocess.run(
        ["taskset", "-c", str(core), *command] if shutil.which("taskset") else command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"benchmarks.micro: {done.stderr[-2000:]}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _is_ours(result: Measured) -> bool:
    return result.server in (servers.OURS, servers.OURS_OPENAI)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="only see that it works")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="factor on all durations")
    parser.add_argument("--only", default="", help="names of workloads, with commas")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--litellm", type=Path, help="a virtual environment with litellm[proxy]")
    parser.add_argument("--nginx", default=servers.find_nginx(), help="nginx's program")
    return parser.parse_args()


def _length(arguments: argparse.Namespace) -> Length:
    only = frozenset(name for name in arguments.only.split(",") if name)
    if arguments.short:
        return Length(0.25, 0.04, arguments.rounds or 1, only)
    return Length(arguments.seconds, 1.0, arguments.rounds or 5, only)


def _cores() -> tuple[int, int]:
    """One core for the server, another one for the load, if there are two."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        print("only one core: rates are not comparable", file=sys.stderr)
    return available[0], available[-1]


def _start(
    stack: ExitStack, arguments: argparse.Namespace, core: int, upstream: int
) -> list[Server]:
    wanted = arguments.only.split(",") if arguments.only else []
    found = [servers.direct(upstream), stack.enter_context(servers.ours(core, upstream))]
    if not wanted or "openai" in wanted:
        found.append(stack.enter_context(servers.ours(core, upstream, openai=True)))
    if arguments.nginx:
        found.append(stack.enter_context(servers.nginx(arguments.nginx, core, upstream)))
    if arguments.litellm:
        found.append(stack.enter_context(servers.litellm(arguments.litellm, core, upstream)))
    return found


if __name__ == "__main__":
    sys.exit(main())
