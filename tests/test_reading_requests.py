"""What is known of a request's body without decoding it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.reading import read_contents
from tests.histories import assistant, call, redacted, result, text, thinking, user

Json = dict[str, Any]


def body(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": list(messages), **fields}).encode()


HISTORY = (
    user(text()),
    assistant(thinking("a", "EqQBone"), redacted("EmwKtwo"), text("x"), call("t1")),
    {"role": "system", "content": "be brief"},
    user(result("t1"), text('{"signature":"EqQBquoted"}')),
    {"role": "assistant", "content": "a text alone"},
    assistant(thinking("b", "ccf1.eJw"), {"type": "thinking", "thinking": "unsigned"}),
    user(text()),
)
SIGNED = ["EqQBone", "EmwKtwo", "ccf1.eJw"]


def test_the_signatures_of_a_history_in_their_order() -> None:
    assert read_contents(body(*HISTORY)).signatures() == SIGNED
    assert read_contents(body()).signatures() == []
    assert read_contents(b'{"model":"m"}').signatures() == []


ODD: dict[str, bytes] = {
    "half of a surrogate pair": body(*HISTORY, x="\ud83d"),
    "bytes that are no UTF-8": body(*HISTORY, x="?").replace(b"?", b"\xff"),
    "a role nobody knows": body(*HISTORY, {"role": "tool", "content": []}),
    "a message without a role": body(*HISTORY, {"content": []}),
    "a message that is none": body(*HISTORY, "text"),
    "content that is a number": body(*HISTORY, {"role": "assistant", "content": 7}),
    "a block that is a string": body(*HISTORY, {"role": "assistant", "content": ["text"]}),
    "tools that are none": body(*HISTORY, tools=["text"]),
    "tools of another kind": body(*HISTORY, tools={}),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_they_are_found_in_bodies_of_any_shape(odd: bytes) -> None:
    contents = read_contents(odd)
    assert (contents.model, contents.signatures()) == ("m", SIGNED)


@pytest.mark.parametrize("value", [None, 7, ["EqQB"], {"a": 1}, ""])
def test_a_signature_that_is_no_text_is_none(value: Any) -> None:
    odd = {"type": "thinking", "thinking": "", "signature": value}
    assert read_contents(body(assistant(odd))).signatures() == []


@pytest.mark.parametrize("messages", [None, 7, "text", {}])
def test_messages_that_are_none_hold_nothing(messages: Any) -> None:
    contents = read_contents(json.dumps({"model": "m", "messages": messages}).encode())
    assert (contents.signatures(), contents.has_server_tools()) == ([], False)


SERVER_TOOLS = (
    "web_search_20250305",
    "web_fetch_20250910",
    "code_execution_20250825",
    "advisor_20260301",
    "tool_search_tool_regex_20251119",
    "mcp_toolset",
)


@pytest.mark.parametrize("kind", SERVER_TOOLS)
@pytest.mark.parametrize("odd", ["", "\ud83d"])
def test_tools_that_anthropic_runs_are_noticed(kind: str, odd: str) -> None:
    tools: list[Json] = [{"name": "Bash", "input_schema": {}}, {"type": kind, "name": "x"}]
    assert read_contents(body(tools=tools, x=odd)).has_server_tools()


@pytest.mark.parametrize("kind", [None, "custom", "bash_20250124", "mcp_toolsets", "web_search", 7])
def test_other_tools_are_not(kind: Any) -> None:
    quoted = user(text('"type":"web_search_20250305"'))
    tools = [{"type": kind, "name": "web_search_20250305"}]
    assert not read_contents(body(quoted, tools=tools)).has_server_tools()
