"""Server-sent events: bytes to events and back."""

from __future__ import annotations


def whole_events(buffer: bytes) -> int:
    """The index just past the last whole event in `buffer`, 0 when there is none."""
    return max(
        (
            at + len(end)
            for end in (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")
            if (at := buffer.rfind(end)) >= 0
        ),
        default=0,
    )
