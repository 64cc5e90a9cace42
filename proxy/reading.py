"""What is read of a request's body before it is relayed: in one pass, and no more than is needed.

Everything else is validated and skipped, which costs a quarter of decoding it. Where nothing
can have changed since the conversation was looked at last, only what routing needs is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from proxy.errors import InvalidRequest

MINTED = "ccf1."
"""How signatures begin that this proxy made for providers that do not sign."""

MAX_CONVERSATIONS = 10_000
"""Conversations that are remembered to have been looked at; the oldest go first."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SERVER_TOOLS = ("web_search_", "web_fetch_", "code_execution_", "advisor_", "tool_search_tool_")
_SERVER_TOOLSET = "mcp_toolset"


class _Block(msgspec.Struct, gc=False):
    signature: Any = None
    data: Any = None


class _Assistant(msgspec.Struct, gc=False, tag_field="role", tag="assistant"):
    content: list[_Block] | str | None = None


class _User(msgspec.Struct, gc=False, tag_field="role", tag="user"):
    """Of what others than the assistant say nothing is looked at."""


class _System(msgspec.Struct, gc=False, tag_field="role", tag="system"): ...


class _Tool(msgspec.Struct, gc=False):
    type: Any = None


class Head(msgspec.Struct, frozen=True, gc=False):
    """What routing needs of a body."""

    model: Any = None
    stream: Any = None


class Contents(Head, frozen=True, gc=False):
    """What repairs, and the choice of a provider, may have to know besides."""

    messages: list[_Assistant | _User | _System] = []
    tools: list[_Tool] | None = None

    def signatures(self) -> list[str]:
        """Those of the thinking in the history, of redacted thinking its data; in order."""
        found = [
            block.signature or block.data
            for message in self.messages
            if type(message) is _Assistant and type(message.content) is list
            for block in message.content
        ]
        return [text for text in found if text and isinstance(text, str)]

    def has_server_tools(self) -> bool:
        """Whether tools are offered that Anthropic runs itself."""
        kinds = [tool.type for tool in self.tools or () if isinstance(tool.type, str)]
        return any(k.startswith(_SERVER_TOOLS) or k == _SERVER_TOOLSET for k in kinds)


NO_MODEL = Contents(model="")
"""Of calls whose body is none of the proxy's business: it may be anything."""

_decode_head = msgspec.json.Decoder(Head).decode
_decode_contents = msgspec.json.Decoder(Contents).decode


class BodyReader:
    """Reads the body of a call as thoroughly as its conversation requires. One a worker.

    A conversation without minted thinking gets some only from a provider that does not sign.
    While there is none, not even a disabled one, looking at it once is enough: once for every
    version of the configuration, because another worker may have had one in between.
    """

    def __init__(self) -> None:
        self._clean: dict[tuple[str, str], None] = {}
        self._version = -1

    def read(
        self, body: bytes, conversation: tuple[str, str], *, may_be_minted: bool, version: int
    ) -> Head:
        """What is known of a body with a model. Raises `InvalidRequest`.

        `conversation`: the ids of its session and agent, empty where the client gave none.
        `version`: that of the configuration which says what `may_be_minted`.
        """
        if version != self._version:
            self._version = version
            self._clean.clear()
        if conversation in self._clean:
            return read_head(body)
        contents = read_contents(body)
        if conversation[0] and not may_be_minted and not any(map(is_minted, contents.signatures())):
            self._clean[conversation] = None
            if len(self._clean) > MAX_CONVERSATIONS:
                del self._clean[next(iter(self._clean))]
        return contents


def is_minted(signature: str) -> bool:
    """Whether this proxy, here or elsewhere, has made a signature."""
    return signature.startswith(MINTED)


def read_head(body: bytes) -> Head:
    """Model and stream flag of a body. Raises `InvalidRequest`."""
    try:
        head = _decode_head(body)
    except _UNREADABLE:
        head = _read_leniently(body)
    return _checked(head)


def read_contents(body: bytes) -> Contents:
    """All that is known of a body without decoding it. Raises `InvalidRequest`."""
    try:
        contents = _decode_contents(body)
    except _UNREADABLE:
        contents = _read_leniently(body)
    return _checked(contents)


_H = TypeVar("_H", bound=Head)


def _checked(head: _H) -> _H:
    if not isinstance(head.model, str) or not head.model:
        raise InvalidRequest("model: a string is required")
    if not _is_text(head.model):
        raise InvalidRequest("model: no such name can exist")
    return head


def _is_text(name: str) -> bool:
    """Whether a name can be written down anywhere: no NUL, no half of a surrogate pair."""
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


def _read_leniently(body: bytes) -> Contents:
    """The standard library's opinion: it takes the lone surrogates that JavaScript sends.

    Whether such a text is acceptable is the provider's to say, not ours; so is anything about
    the messages. UTF-16 and a byte order mark, which it would take as well, are not JSON of the
    web (RFC 8259, section 8.1). Its errors tell places; the other decoder's may quote the text.
    """
    try:
        document = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the body has to be a JSON object")
    assistants = [m for m in _objects(document.get("messages")) if m.get("role") == "assistant"]
    return Contents(
        document.get("model"),
        document.get("stream"),
        [_Assistant([_block(b) for b in _objects(m.get("content"))]) for m in assistants],
        [_Tool(tool.get("type")) for tool in _objects(document.get("tools"))],
    )


def _block(block: Mapping[str, Any]) -> _Block:
    return _Block(block.get("signature"), block.get("data"))


def _objects(items: Any) -> list[Mapping[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
