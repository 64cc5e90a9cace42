"""From a host's name to a socket: its addresses race, each with a head start over the next."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

HEAD_START = 0.25
"""Seconds before the next address of a host is tried beside the one that has not answered yet."""

_Address = tuple[Any, ...]


class Origin(NamedTuple):
    """Where a connection leads."""

    scheme: str
    host: str
    port: int


async def connected_socket(host: str, port: int) -> socket.socket:
    """The first address of a host that answers; each gets a head start over the next.

    Otherwise a host with an IPv6 address that leads nowhere would cost the whole limit.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = _alternating([(family, address) for family, _, _, _, address in found])
    attempts: list[asyncio.Task[socket.socket]] = []
    pending: set[asyncio.Task[socket.socket]] = set()
    error: BaseException = OSError(f"{host} has no address")
    try:
        while addresses or pending:
            if addresses:
                attempts.append(asyncio.create_task(_open_socket(*addresses.pop(0))))
                pending.add(attempts[-1])
            done, pending = await asyncio.wait(
                pending,
                timeout=HEAD_START if addresses else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                if (failure := task.exception()) is None:
                    attempts.remove(task)
                    return task.result()
                error = failure
    finally:
        for task in attempts:
            task.add_done_callback(_close_socket)
            task.cancel()
    raise error


async def _open_socket(family: int, address: _Address) -> socket.socket:
    peer = socket.socket(family, socket.SOCK_STREAM)
    try:
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(peer, address)
    except BaseException:
        peer.close()
        raise
    return peer


def _close_socket(task: asyncio.Task[socket.socket]) -> None:
    """Somebody else was faster."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _alternating(
    addresses: Sequence[tuple[int, _Address]],
) -> list[tuple[int, _Address]]:
    """The families by turns, the first one's in front."""
    first = [pair for pair in addresses if pair[0] == addresses[0][0]]
    others = [pair for pair in addresses if pair[0] != addresses[0][0]]
    ordered = []
    while first or others:
        ordered += [pairs.pop(0) for pairs in (first, others) if pairs]
    return ordered
