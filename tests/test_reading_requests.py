"""What is known of a request's body without decoding it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy import reading
from proxy.errors import InvalidRequest
from proxy.reading import BodyReader, Contents, read_contents, read_head
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


# --- how often a conversation is looked at -----------------------------------------

CLEAN = body(user(text()), assistant(thinking("a", "EqQBone")))
MINTED = body(*HISTORY)
HERE = ("session-1", "agent-1")


def looks(
    reader: BodyReader,
    read: bytes,
    where: tuple[str, str] = HERE,
    may: bool = False,
    version: int = 1,
) -> bool:
    """Whether the reader looks at the contents of a body."""
    head = reader.read(read, where, may_be_minted=may, version=version)
    assert head.model == "m"
    return isinstance(head, Contents)


def test_a_clean_conversation_is_looked_at_once() -> None:
    reader = BodyReader()
    assert looks(reader, CLEAN)
    assert not looks(reader, CLEAN)
    for other in (("session-1", ""), ("session-2", "agent-1"), ("", ""), ("", "")):
        assert looks(reader, CLEAN, other), other


def test_one_that_holds_minted_thinking_is_always_looked_at() -> None:
    reader = BodyReader()
    for _ in range(3):
        assert looks(reader, MINTED)


def test_where_thinking_is_minted_every_call_is_looked_at_also_of_those_once_clean() -> None:
    reader = BodyReader()
    looks(reader, CLEAN)
    for _ in range(2):
        assert looks(reader, CLEAN, may=True, version=2)
    # And when that is over: what happened meanwhile is not known.
    assert looks(reader, MINTED, version=3)


def test_every_configuration_is_a_new_one_perhaps_another_worker_has_minted_in_between() -> None:
    reader = BodyReader()
    looks(reader, CLEAN, version=1)
    assert looks(reader, MINTED, version=3)
    assert looks(reader, CLEAN, version=4)
    assert not looks(reader, CLEAN, version=4)


def test_only_so_many_conversations_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_CONVERSATIONS", 2)
    reader = BodyReader()
    for name in ("one", "two", "three"):
        looks(reader, CLEAN, (name, ""))
    assert looks(reader, CLEAN, ("one", ""))
    assert not looks(reader, CLEAN, ("three", ""))


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_head_is_read_from_bodies_of_any_shape(odd: bytes) -> None:
    assert read_head(odd).model == "m"


@pytest.mark.parametrize("read", [read_head, read_contents])
def test_what_is_said_about_broken_json_quotes_none_of_it(read: Callable[[bytes], Any]) -> None:
    for broken in (
        b'{"model":"m","messages":[{"role":"my words"}],',
        b'{"model":"m","messages":[{"role":"assistant","content":["my words"]}]} my words',
        b'{"model":"m","x":"my words \xff"} my words',
    ):
        with pytest.raises(InvalidRequest) as refused:
            read(broken)
        assert "words" not in refused.value.message
        assert "not valid JSON" in refused.value.message
