"""Decompresses replies that come compressed although nobody asked for it."""

from __future__ import annotations

import zlib

from proxy.errors import InvalidReply, NetworkFailure


class Inflate:
    """Incremental gzip and deflate. Raises `InvalidReply` on garbage."""

    MAX_AT_ONCE = 16 * 1024 * 1024

    def __init__(self, window_bits: int) -> None:
        self._decompress = zlib.decompressobj(window_bits)

    def feed(self, data: bytes) -> bytes:
        try:
            out = self._decompress.decompress(data, self.MAX_AT_ONCE)
        except zlib.error as error:
            raise InvalidReply(f"the compressed reply is broken: {error}") from None
        if self._decompress.unconsumed_tail:
            raise InvalidReply("the compressed reply expands beyond all bounds")
        return out

    def end(self) -> bytes:
        if not self._decompress.eof:
            raise NetworkFailure("the compressed reply was cut off")
        return b""


def inflater(encoding: bytes | None) -> Inflate | None:
    """A decompressor for this content-encoding, None where there is nothing to do."""
    name = (encoding or b"").strip().lower()
    if name in (b"", b"identity"):
        return None
    if name in (b"gzip", b"x-gzip"):
        return Inflate(16 + zlib.MAX_WBITS)
    if name == b"deflate":
        return Inflate(zlib.MAX_WBITS)
    raise InvalidReply(f"the reply is compressed with {name.decode('latin-1')}")
