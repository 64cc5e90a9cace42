"""What is read of a request's body before it is relayed: in one pass, and no more than is needed.

Everything else is validated and skipped, which costs a quarter of decoding it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.errors import InvalidRequest

MINTED = "ccf1."
"""How signatures begin that this proxy made for providers that do not sign."""

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


class Contents(msgspec.Struct, frozen=True, gc=False):
    """What repairs, and the choice of a provider, may have to know of a body."""

    model: Any = None
    stream: Any = None
    messages: list[_Assistant | _User | _System] = []
    tools: list[_Tool] | None = None

    def signatures(self) -> list[str]:
        """Those of the thinking in the history, of redacted thinking its data; in order."""
        # One comprehension, because every call pays for it.
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


NOTHING = Contents()
_decode = msgspec.json.Decoder(Contents).decode


def read_contents(body: bytes) -> Contents:
    """What is known of a body with a model. Raises `InvalidRequest`."""
    try:
        contents = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        contents = _read_leniently(body, error)
    if not isinstance(contents.model, str) or not contents.model:
        raise InvalidRequest("model: a string is required")
    if not _is_text(contents.model):
        raise InvalidRequest("model: no such name can exist")
    return contents


def _is_text(name: str) -> bool:
    """Whether a name can be written down anywhere: no NUL, no half of a surrogate pair."""
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


def _read_leniently(body: bytes, error: Exception) -> Contents:
    """The standard library's opinion: it takes the lone surrogates that JavaScript sends.

    Whether such a text is acceptable is the provider's to say, not ours; so is anything about
    the messages. UTF-16 and a byte order mark, which it would take as well, are not JSON of the
    web (RFC 8259, section 8.1).
    """
    try:
        document = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
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
