"""What holds for every conversation and every stream."""

from __future__ import annotations

import copy
import gc
import re
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import TypeAdapter

from proxy.errors import RequestRefused
from proxy.formats import envelope
from proxy.formats.openai_chat import OPENAI_CHAT
from proxy.formats.openai_chat.profile import profile_for
from proxy.formats.openai_chat.request import convert
from tests.openai_dialect import (
    DONE,
    HOSTS,
    IMAGE,
    LOOP,
    NO_JSON,
    PDF,
    SCHEMA,
    asking,
    call_delta,
    call_of,
    completion,
    d,
    event,
    events_in,
    fin,
    kinds,
    own_thinking,
    read_all,
    read_by_sdk,
    said,
    streamed,
    target,
    tc,
    tool,
    tool_result,
    tool_use,
    usage,
    user,
    way_back,
)

MESSAGE = TypeAdapter(ChatCompletionMessageParam)
TOOL = TypeAdapter(ChatCompletionToolParam)

# -- streams ---------------------------------------------------------------------------------

words = st.sampled_from(["", " ", "\n\n", "he", "llo", "<", "<think>", "</think>", "ü\U0001f600"])
ids = st.sampled_from([None, "", "a", "b", "c!"])
names = st.sampled_from([None, "", "A", "B"])
indexes = st.sampled_from([None, 0, 1])
arguments = st.sampled_from(
    [None, "", "{}", '{"x":', "1}", '{"x":1}', '"k":"v', '"}', ",", "[", "]", "}", "{", "tr", '"\\']
)
tool_deltas = st.builds(call_delta, indexes, ids, names, arguments)
deltas = st.one_of(
    st.builds(d, content=words),
    st.builds(d, reasoning_content=words),
    st.builds(d, role=st.just("assistant"), content=words, reasoning=words),
    st.builds(d, tool_calls=st.lists(tool_deltas, min_size=1, max_size=2)),
)
others = st.one_of(
    st.builds(fin, st.sampled_from(["stop", "tool_calls", "length", "content_filter", "eos"])),
    st.just(usage(prompt_tokens=10, completion_tokens=2)),
    st.sampled_from(
        [
            b": comment\n\n",
            b"data: {bad\n\n",
            b"data: null\n\n",
            event({"choices": None}),
            event({"choices": [{"delta": None}]}),
        ]
    ),
)
failures = st.sampled_from([event({"error": {"message": "m"}}), fin("error")])
chunks = st.lists(st.one_of(deltas, deltas, deltas, others), max_size=14)
endings = st.sampled_from([DONE, fin("stop") + DONE, fin("length"), b"", fin("tool_calls") + DONE])
streams = st.builds(lambda body, end: [*body, end], chunks, endings)
asked = st.sampled_from(
    [
        asking("hi", stream=True),
        asking("hi", stream=True, thinking={"type": "adaptive"}),
        asking("hi", stream=True, thinking={"type": "adaptive", "display": "omitted"}),
    ]
)
_RANDOM_IDS = re.compile(rb'"(?:msg|toolu)_[A-Za-z0-9]{24}"')


def stable(data: bytes) -> bytes:
    return _RANDOM_IDS.sub(b'"id"', data)


@given(streams, asked, st.data())
@settings(max_examples=60, deadline=None)
def test_p1_how_the_bytes_are_split_changes_nothing(
    stream: list[bytes], request: Any, data: Any
) -> None:
    whole = b"".join(stream)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=8)))
    portions = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    first = way_back(request).open_stream()
    second = way_back(request).open_stream()
    assert stable(read_all(first, [whole])) == stable(read_all(second, portions))
    assert (first.complete, first.usage) == (second.complete, second.usage)


@given(streams, asked, st.none() | failures)
@settings(max_examples=120, deadline=None)
def test_p2_p3_the_grammar_always_holds(
    stream: list[bytes], request: Any, failure: bytes | None
) -> None:
    reader = way_back(request).open_stream()
    data = read_all(reader, [*stream, failure] if failure else stream)
    events = events_in(data)
    told = [e for e in events if e["type"] != "ping"]

    if not reader.complete:  # cut off, or failed
        assert "message_delta" not in kinds(told)
        assert (reader.error is None) is ("error" not in kinds(told))
        return
    assert kinds(told)[0] == "message_start"
    assert kinds(told)[-2:] == ["message_delta", "message_stop"]
    assert kinds(told).count("message_start") == kinds(told).count("message_delta") == 1
    reason = told[-2]["delta"]["stop_reason"]
    if reason == "max_tokens":
        return
    blocks = said(told)  # checks the order of blocks, their deltas, and every tool's input
    assert reader.content_begun is bool(blocks)
    assert not any(isinstance(block, str) and not block.strip() for block in blocks)
    used = [block[0] for block in blocks if isinstance(block, tuple) and len(block) == 3]
    assert len(set(used)) == len(used)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", tool_id) for tool_id in used)
    if not any(isinstance(block, tuple) and block[-1] == NO_JSON for block in blocks):
        assert read_by_sdk(data).stop_reason == reason


@st.composite
def parallel_calls(draw: Any) -> tuple[list[bytes], list[Any]]:
    """Calls whose arguments come in pieces, interleaved; the last one may break off."""
    inputs = draw(st.lists(st.dictionaries(printable, values, max_size=3), min_size=1, max_size=3))
    calls = [(f"call_{number}", "Bash", value) for number, value in enumerate(inputs)]
    pieces = []
    for number, (tool_id, name, value) in enumerate(calls):
        whole = orjson.dumps(value).decode()
        cut = draw(st.integers(0, len(whole)))
        pieces.append([tc(number, tool_id, name, whole[:cut]), tc(number, None, None, whole[cut:])])
    stream = []
    while any(pieces):
        waiting = [left for left in pieces if left]
        started = len([left for left in pieces if len(left) < 2])
        # a call begins only after the ones before it
        stream.append(draw(st.sampled_from(waiting[: started + 1])).pop(0))
    return stream, calls


printable = st.text('ab"\\{}[]\x1f\n\u2028ü\U0001f600', max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | printable,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(printable, inner, max_size=2),
    max_leaves=4,
)


@given(parallel_calls())
@settings(max_examples=50, deadline=None)
def test_p3_interleaved_calls_come_out_one_by_one(drawn: tuple[list[bytes], list[Any]]) -> None:
    stream, calls = drawn

    events = streamed(*stream, fin("tool_calls"), DONE)
    assert sorted(said(events), key=repr) == sorted(calls, key=repr)


@given(st.dictionaries(printable, values, max_size=3), st.data())
@settings(max_examples=80, deadline=None)
def test_p3_arguments_that_break_off_still_are_an_object(given_input: Any, data: Any) -> None:
    whole = orjson.dumps(given_input).decode()
    cut = data.draw(st.integers(0, len(whole)))

    events = streamed(tc(0, "a", "Bash", whole[:cut]), fin("stop"))
    ((_, _, told),) = said(events)
    assert isinstance(told, dict)
    assert cut < len(whole) or told == given_input


# -- requests --------------------------------------------------------------------------------

MARK = {"cache_control": {"type": "ephemeral"}}
texts = st.sampled_from(["", " ", "x", "yes", "cut \U0001f600"])
tool_ids = st.sampled_from(["t1", "t2", "t3", "x" * 50, "", "t1_2"])
blocks_of_user = st.one_of(
    st.builds(lambda t: {"type": "text", "text": t, **MARK}, texts),
    st.sampled_from([IMAGE, PDF, {"type": "odd"}, "plain", None, 5]),
    st.builds(
        tool_result,
        tool_ids,
        st.sampled_from(
            ["ok", "", None, [], [IMAGE], [{"type": "text", "text": "r", **MARK}], [5]]
        ),
        is_error=st.booleans(),
    ),
)
blocks_of_assistant = st.one_of(
    st.builds(lambda t: {"type": "text", "text": t}, texts),
    st.builds(tool_use, tool_ids, st.sampled_from(["Bash", "a.b", "n" * 70]), st.just({"k": "ä"})),
    st.sampled_from(
        [
            own_thinking("r"),
            own_thinking("", text="r", thought_signatures={"t1": "S"}),
            {"type": "thinking", "thinking": "t", "signature": "EqQB"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        ]
    ),
)


def message(role: str, blocks: Any) -> Any:
    content = st.one_of(st.lists(blocks, max_size=4), texts, st.none())
    return st.builds(lambda c: {"role": role, "content": c}, content)


messages = st.lists(
    st.one_of(
        message("user", blocks_of_user),
        message("assistant", blocks_of_assistant),
        st.builds(lambda t: {"role": "system", "content": t}, texts),
    ),
    max_size=8,
)
TOOLS = [
    tool("Bash", description="d", input_schema=SCHEMA, **MARK),
    tool("a.b", strict=True),
    tool("n" * 70),
    {"type": "web_search_20250305", "name": "web_search"},
]
requests = st.builds(
    lambda history, **more: asking(*history, **{k: v for k, v in more.items() if v is not None}),
    messages,
    system=st.sampled_from([None, "S", [{"type": "text", "text": "S", **MARK}]]),
    tools=st.sampled_from([None, [], TOOLS]),
    tool_choice=st.sampled_from([None, {"type": "any"}, {"type": "tool", "name": "a.b"}]),
    thinking=st.sampled_from([None, {"type": "adaptive"}, {"type": "disabled"}]),
    metadata=st.just({"user_id": "u"}),
)
profiles = st.one_of(
    st.sampled_from([{"base_url": host} for host in HOSTS]),
    st.sampled_from(
        [
            {"message_alternation": True},
            {"inline_system": "preserve", "tool_images": "inline"},
            {"images": False, "assistant_null_content": False, "prefill": "append_user"},
            {"reasoning_history": "reasoning_content", "user_field": "hash"},
        ]
    ),
)
_FORBIDDEN = (
    "cache_control",
    "input_schema",
    "tool_use_id",
    "system",
    "stop_sequences",
    "metadata",
)


def keys_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for item in value.values() for key in keys_in(item)}
    if isinstance(value, list):
        return {key for item in value for key in keys_in(item)}
    return set()


@given(requests, profiles)
@settings(max_examples=120, deadline=None)
def test_p4_p5_every_conversation_converts(document: dict[str, Any], profile: Any) -> None:
    asked_of = target(**profile)
    before = copy.deepcopy(document)
    try:
        request, _ = OPENAI_CHAT.translate(call_of(document), asked_of)
    except RequestRefused as refused:
        assert refused.message.startswith("messages:")
        return
    again, _ = OPENAI_CHAT.translate(call_of(document), asked_of)
    assert request.body == again.body
    convert(document, asked_of, profile_for(asked_of))
    assert document == before

    body = orjson.loads(request.body)
    assert not keys_in(body).intersection(_FORBIDDEN)
    for sent in body["messages"]:
        MESSAGE.validate_python(sent)
    for offered in body.get("tools", ()):
        TOOL.validate_python(offered)
    check_pairing(body["messages"])
    if profile.get("message_alternation"):
        order = [
            sent["role"] for sent in body["messages"] if sent["role"] not in ("system", "tool")
        ]
        assert all(one != other or one == "assistant" for one, other in pairwise(order))


def test_a_conversion_leaves_nothing_for_the_garbage_collector() -> None:
    # Requests are large, and there are many: what is in a cycle stays in memory for long.
    call = call_of(asking("hi", *LOOP, user(IMAGE, PDF), system="S", tools=TOOLS))
    gc.collect()
    gc.disable()
    try:
        OPENAI_CHAT.translate(call, target())
        assert gc.collect() == 0
    finally:
        gc.enable()


def check_pairing(sent: list[dict[str, Any]]) -> None:
    """Each call is followed at once by its one result; no result stands anywhere else."""
    position = 0
    seen: set[str] = set()
    while position < len(sent):
        assert sent[position]["role"] != "tool"
        called = [call["id"] for call in sent[position].get("tool_calls", ())]
        assert len(set(called)) == len(called)
        assert not seen.intersection(called)
        seen.update(called)
        results = sent[position + 1 : position + 1 + len(called)]
        assert [result.get("tool_call_id") for result in results] == called
        position += 1 + len(called)


@given(streams, st.sampled_from(["none", "reasoning_content", "reasoning_details"]))
@settings(max_examples=40, deadline=None)
def test_p6_answers_convert_as_history(stream: list[bytes], history: str) -> None:
    request = asking("hi", stream=True, thinking={"type": "adaptive"})
    translation = way_back(request)
    reader = translation.open_stream()
    data = read_all(reader, stream)
    events = events_in(data)
    if not reader.content_begun or not reader.complete:
        return
    if NO_JSON in [block[-1] for block in said(events)]:  # nothing that was passed on can be mended
        return
    content = [block.model_dump(exclude_none=True) for block in read_by_sdk(data).content]
    results = [tool_result(block["id"]) for block in content if block["type"] == "tool_use"]
    again = asking(
        "hi", {"role": "assistant", "content": content}, user(*results, "go on"), stream=True
    )

    following = way_back(again, reasoning_history=history)
    assert following.read_message(completion({"content": "x"})).body
    clean = envelope.strip_minted(again, "another") or again
    left = [block for m in clean["messages"] if m["role"] == "assistant" for block in m["content"]]
    assert not any(block["type"] == "thinking" for block in left)
    assert all(block["text"].strip() for block in left if block["type"] == "text")
