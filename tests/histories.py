"""Requests as Claude Code sends them, for property tests, and what Anthropic's API asks of them."""

from __future__ import annotations

import base64
import copy
import json
import re
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any

import anthropic.types as wire
import anthropic.types.beta as beta
from hypothesis import strategies as st
from pydantic import TypeAdapter

from providers.routing import Credentials, ProviderSpec, Target, WireFormat
from proxy.rectifiers import REPAIRS, Draft
from proxy.wire import ErrorReply

Json = dict[str, Any]


def target(
    format: WireFormat = WireFormat.ANTHROPIC, *, primary: bool = False, **profile: Any
) -> Target:
    credentials = Credentials.CLIENT if primary else Credentials.OWN
    provider = ProviderSpec(
        1, "backup", "http://upstream.test", format, credentials, profile=profile
    )
    return Target(provider, "claude-sonnet-5")


def refusal(message: str, status: int = 400, body: object = None) -> ErrorReply:
    if body is None:
        body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ErrorReply(status, [], raw, "invalid_request_error", message, upstream_status=status)


def draft(document: Json, betas: str = "", **profile: Any) -> Draft:
    headers = [(b"accept", b"*/*")]
    if betas:
        headers.append((b"anthropic-beta", betas.encode()))
    return Draft(document, headers, profile)


# --- mending ----------------------------------------------------------------------------------


def mend(
    before: Draft | dict[str, Any], message: str, at: Target | None = None, status: int = 400
) -> Any:
    """The draft after the first repair that answers to `message`, None if nothing was mended."""
    at = at or target()
    before = before if isinstance(before, Draft) else draft(before)
    kept = copy.deepcopy(before)
    error = refusal(message, status)
    for repair in REPAIRS:
        if repair.matches(error, at) and (after := repair.apply(before, error, at)):
            assert before == kept, "a repair changed its input"
            return after
    return None


def mended(before: Draft | dict[str, Any], message: str, at: Target | None = None) -> Any:
    after = mend(before, message, at)
    assert after is not None
    return after.document


# --- blocks -----------------------------------------------------------------------------------


def text(words: str = "hello", **more: Any) -> Json:
    return {"type": "text", "text": words, **more}


def thinking(words: str = "hm", signature: str = "EqQBCkgIARABGAI=") -> Json:
    return {"type": "thinking", "thinking": words, "signature": signature}


def redacted(data: str = "EmwKAhgBEgy3va3pzix") -> Json:
    return {"type": "redacted_thinking", "data": data}


def call(id: str, name: str = "Read", **arguments: Any) -> Json:
    return {"type": "tool_use", "id": id, "name": name, "input": arguments}


def result(id: str, content: Any = "ok", **more: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


def png(width: int = 16, height: int = 16, padding: int = 0) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\0" * padding


def image(data: bytes | None = None, media_type: str = "image/png") -> Json:
    encoded = base64.b64encode(png() if data is None else data).decode()
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": media_type, "data": encoded},
    }


def user(*content: Any) -> Json:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> Json:
    return {"role": "assistant", "content": list(content)}


def tool(name: str = "Read", **more: Any) -> Json:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    return {"name": name, "description": "Reads.", "input_schema": schema, **more}


def request(*messages: Any, **more: Any) -> Json:
    return {"model": "claude-sonnet-5", "max_tokens": 32_000, "messages": list(messages), **more}


# --- strategies -------------------------------------------------------------------------------

MARK = {"type": "ephemeral"}
words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(str.strip)
blank = st.sampled_from(["", " ", "\n\n"])
marks = st.sampled_from([{}, {}, {}, {"cache_control": MARK}])
texts = st.builds(lambda w, mark: text(w, **mark), words, marks)
thoughts = st.one_of(
    st.builds(thinking, words, st.sampled_from(["EqQBsig", "EuYBsig", "ccf1.abc", ""])),
    st.builds(redacted, st.sampled_from(["EmwKdata", "EnEKdata"])),
)
images = st.builds(lambda side: image(png(side, side)), st.sampled_from([16, 1500, 2500, 9000]))
result_contents = st.one_of(
    words,
    st.lists(
        st.one_of(texts, images, st.just({"type": "tool_reference", "tool_name": "mcp__x"})),
        max_size=3,
    ),
)


class Ids:
    """Fresh ids, now and then one that has been used or that is not legal."""

    def __init__(self, draw: Any, sloppy: bool) -> None:
        self.draw, self.sloppy, self.used = draw, sloppy, ["toolu_0"]

    def next(self) -> str:
        if self.sloppy and self.draw(st.integers(0, 5)) == 0:
            return str(self.draw(st.sampled_from([*self.used, "call:1/2", "a b"])))
        self.used.append(f"toolu_{len(self.used)}")
        return self.used[-1]


@st.composite
def turns(draw: Any, ids: Ids, sloppy: bool) -> list[Json]:
    """What the user says, then rounds of thinking and parallel tool calls, then an answer."""
    said = draw(st.lists(st.one_of(texts, images), min_size=1, max_size=2))
    messages: list[Json] = [user(*said)]
    if draw(st.booleans()) and draw(st.booleans()):
        messages.append(
            {
                "role": "system",
                "content": draw(st.one_of(words, st.lists(texts, min_size=1, max_size=2))),
            }
        )
    for _ in range(draw(st.integers(0, 2))):
        messages += draw(rounds(ids, sloppy))
    if draw(st.integers(0, 3)):
        blocks = draw(st.lists(thoughts, max_size=1)) + draw(
            st.lists(texts, min_size=1, max_size=2)
        )
        messages.append(assistant(*blocks))
    return messages


@st.composite
def rounds(draw: Any, ids: Ids, sloppy: bool) -> list[Json]:
    calls = [
        call(ids.next(), draw(st.sampled_from(["Read", "Bash"])), n=i)
        for i in range(draw(st.integers(1, 3)))
    ]
    if not sloppy:
        calls = list({c["id"]: c for c in calls}.values())
    thought = draw(st.lists(thoughts, max_size=1))
    said = draw(st.lists(texts, max_size=1))
    results = [result(c["id"], draw(result_contents)) for c in calls]
    if sloppy:
        results = draw(st.permutations(results))[: draw(st.integers(0, len(results)))]
        if draw(st.integers(0, 4)) == 0:
            results.append(result(ids.next(), "stray"))
    after = draw(st.lists(texts, max_size=1))
    if sloppy and draw(st.booleans()):
        after, results = [], [*after, *results]
    reply = user(*results, *after)
    system = (
        [{"role": "system", "content": "note"}] if sloppy and draw(st.integers(0, 5)) == 0 else []
    )
    return [assistant(*thought, *said, *calls), *system, *([reply] if reply["content"] else [])]


@st.composite
def requests(draw: Any, *, sloppy: bool = False) -> Json:
    """A whole request. `sloppy`: with the damage that sessions collect: calls and results that do
    not match, ids used twice, empty text, more cache marks than allowed."""
    ids = Ids(draw, sloppy)
    messages = [m for _ in range(draw(st.integers(1, 3))) for m in draw(turns(ids, sloppy))]
    document = request(
        *messages, system=draw(st.one_of(words, st.lists(texts, min_size=1, max_size=3)))
    )
    document["tools"] = [tool("Read"), tool("Bash", **draw(marks))]
    document |= draw(settings)
    if sloppy:
        _damage(draw, document)
    else:
        _keep_four_marks(document)
    # through JSON, so that no object stands in two places, as in a decoded body
    decoded: Json = json.loads(json.dumps(document))
    return decoded


def _damage(draw: Any, document: Json) -> None:
    for message in document["messages"]:
        if isinstance(message["content"], list) and draw(st.integers(0, 3)) == 0:
            message["content"].insert(0, text(draw(blank), **draw(marks)))
        if draw(st.integers(0, 9)) == 0 and message["role"] != "system":
            message["content"] = draw(st.sampled_from(["", [], [text("")]]))


def _keep_four_marks(document: Json) -> None:
    for holder in list(marked(document))[4:]:
        del holder["cache_control"]


_thinking = st.sampled_from(
    [{}, {"thinking": {"type": "adaptive"}}, {"thinking": {"type": "disabled"}}]
    + [{"thinking": {"type": "enabled", "budget_tokens": n}} for n in (1024, 8000, 31_999)]
)
_others = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.just(1.0),
        "top_k": st.just(5),
        "tool_choice": st.sampled_from([{"type": "auto"}, {"type": "tool", "name": "Read"}]),
        "output_config": st.sampled_from([{"effort": "xhigh"}, {"effort": "low"}]),
        "metadata": st.just({"user_id": '{"device":"d","account":"a"}'}),
        "context_management": st.just(
            {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
        ),
        "stream": st.booleans(),
    },
)
settings = st.builds(lambda a, b: {**a, **b}, _thinking, _others)

# --- what the API asks ------------------------------------------------------------------------

BLOCK_TYPES: dict[str, Any] = {
    "text": wire.TextBlockParam,
    "image": wire.ImageBlockParam,
    "document": wire.DocumentBlockParam,
    "thinking": wire.ThinkingBlockParam,
    "redacted_thinking": wire.RedactedThinkingBlockParam,
    "tool_use": wire.ToolUseBlockParam,
    "tool_result": wire.ToolResultBlockParam,
    "tool_reference": wire.ToolReferenceBlockParam,
    "server_tool_use": beta.BetaServerToolUseBlockParam,
}
_adapters = {kind: TypeAdapter(type) for kind, type in BLOCK_TYPES.items()}
_thinking_adapter: Any = TypeAdapter(wire.ThinkingConfigParam)
_choice_adapter: Any = TypeAdapter(wire.ToolChoiceParam)
_tool_adapter: Any = TypeAdapter(wire.ToolParam)
_LEGAL = re.compile(r"[a-zA-Z0-9_-]+")


def assert_typed(document: Json) -> None:
    """The SDK's types accept every part, and roles and contents are what they may be."""
    assert document["messages"]
    for message in document["messages"]:
        assert message["role"] in ("user", "assistant", "system")
        assert isinstance(message.get("content", ""), str | list)
    for block in all_blocks(document):
        _adapters[block["type"]].validate_python(block)
    for offered in document.get("tools", ()):
        _tool_adapter.validate_python(offered)
    if "thinking" in document:
        _thinking_adapter.validate_python(document["thinking"])
    if "tool_choice" in document:
        _choice_adapter.validate_python(document["tool_choice"])
    assert document["max_tokens"] > 0


def all_blocks(document: Json) -> Iterator[Json]:
    if isinstance(document.get("system"), list):
        yield from document["system"]
    for message in document["messages"]:
        if not isinstance(message.get("content"), list):
            continue
        for block in message["content"]:
            yield block
            if block["type"] == "tool_result" and isinstance(block.get("content"), list):
                yield from block["content"]


def marked(document: Json) -> Iterator[Json]:
    for holder in (*document.get("tools", ()), *all_blocks(document)):
        if holder.get("cache_control"):
            yield holder


def merged(document: Json) -> list[tuple[str, list[Json]]]:
    """Turns as the API sees them: messages of one role in a row are one."""
    turns: list[tuple[str, list[Json]]] = []
    for message in document["messages"]:
        content = message.get("content") or []
        blocks = [text(content)] if isinstance(content, str) else content
        if message["role"] == "system":
            turns.append(("system", []))
        elif turns and turns[-1][0] == message["role"]:
            turns[-1][1].extend(blocks)
        else:
            turns.append((message["role"], list(blocks)))
    return turns


def assert_paired(document: Json) -> None:
    """Every call is answered once, at the head of the next turn, and nothing else is answered."""
    expected: list[str] = []
    for role, blocks in [*merged(document), ("end", [])]:
        kinds = [block["type"] for block in blocks]
        found = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert Counter(found) == Counter(expected), (role, found, expected)
        assert kinds[: len(found)] == ["tool_result"] * len(found), "results come first"
        expected = [block["id"] for block in blocks if block["type"] == "tool_use"]


def assert_distinct_legal_ids(document: Json, *, legal: bool = True) -> None:
    ids = [block["id"] for block in all_blocks(document) if block["type"] == "tool_use"]
    assert len(ids) == len(set(ids))
    assert not legal or all(_LEGAL.fullmatch(id) for id in ids)


def assert_no_empty_text(document: Json) -> None:
    assert all(block["text"].strip() for block in all_blocks(document) if block["type"] == "text")
    for message in document["messages"]:
        content = message.get("content", "x")
        assert content and (not isinstance(content, str) or content.strip())
