"""Providers of the end-to-end checks, on real sockets: one refuses, one answers by script."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 10.0
"""Seconds that a provider waits for the client before it goes on by itself."""


def event(kind: str, **fields: Any) -> bytes:
    """One event of a stream, as the Messages API writes it."""
    payload = json.dumps({"type": kind, **fields})
    return f"event: {kind}\ndata: {payload}\n\n".encode()


def text(words: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})


BEGINNING = event(
    "message_start",
    message={
        "id": "msg_end_to_end",
        "type": "message",
        "role": "assistant",
        "model": "small",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 1},
    },
) + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
END = (
    event("content_block_stop", index=0)
    + event(
        "message_delta",
        delta={"stop_reason": "end_turn", "stop_sequence": None},
        usage={"output_tokens": 7},
    )
    + event("message_stop")
)


class FakeProvider:
    """Listens on a free port of the loopback interface. `answer` is called for every request."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        """Headers (names in lower case) and body of each request."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        raise NotImplementedError

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                provider.requests.append((headers, body))
                provider.answer(self, body)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


class Overloaded(FakeProvider):
    """Refuses every call."""

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        error = {"type": "overloaded_error", "message": "Overloaded"}
        reply = json.dumps({"type": "error", "error": error}).encode()
        handler.send_response(529)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(reply)))
        handler.end_headers()
        handler.wfile.write(reply)


class Streaming(FakeProvider):
    """Streams. The model that is asked for says how: `whole`, `cut` or `endless`."""

    def __init__(self) -> None:
        super().__init__()
        self.client_has_read = threading.Event()
        """Set by the check when its client has the beginning; the rest waits for it."""
        self.went_on = threading.Event()
        """Set just before the rest of a `whole` stream is sent."""
        self.abandoned = threading.Event()
        """Set when nobody reads an `endless` stream any more."""

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        script = {"whole": self._whole, "cut": self._cut, "endless": self._endless}
        script[body["model"]](handler)

    def _whole(self, handler: BaseHTTPRequestHandler) -> None:
        _send(handler, BEGINNING)
        self.client_has_read.wait(PATIENCE)
        self.went_on.set()
        _send(handler, text("Hello"))
        _send(handler, END)
        handler.wfile.write(b"0\r\n\r\n")

    def _cut(self, handler: BaseHTTPRequestHandler) -> None:
        _send(handler, BEGINNING + text("Half an ans"))
        # Without the chunk that ends a reply: the provider has died.
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    def _endless(self, handler: BaseHTTPRequestHandler) -> None:
        _send(handler, BEGINNING)
        end = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < end:
                _send(handler, text("and so on "))
                time.sleep(0.05)
        except OSError:
            self.abandoned.set()
        handler.close_connection = True


def _send(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
    handler.wfile.flush()
