"""Streams of Chat Completions as the events of an Anthropic message."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.formats import envelope
from tests.openai_dialect import (
    DONE,
    asking,
    blocks_in,
    call_delta,
    d,
    ending,
    event,
    events_in,
    fin,
    kinds,
    read_all,
    said,
    streamed,
    tc,
    usage,
    way_back,
)

USAGE = usage(prompt_tokens=10, completion_tokens=2)
THINKING = asking("hi", stream=True, thinking={"type": "adaptive"})


def test_s01_a_text() -> None:
    events = streamed(
        d(role="assistant"), d(content="he"), d(content="llo"), fin("stop"), USAGE, DONE
    )
    assert kinds(events) == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = events[0]["message"]
    assert (start["content"], start["stop_reason"], start["model"]) == ([], None, "claude-sonnet-5")
    assert start["usage"].keys() >= {"input_tokens", "output_tokens"}
    assert events[1]["content_block"] == {"type": "text", "text": ""}
    assert said(events) == ["hello"]
    assert ending(events)["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert ending(events)["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 2,
    }


def test_a_ping_follows_the_start_and_no_end_mark_reaches_the_client() -> None:
    data = read_all(way_back().open_stream(), [d(content="x"), fin("stop"), DONE])

    assert kinds(events_in(data))[:2] == ["message_start", "ping"]
    assert b"[DONE]" not in data


A = ("a", "A", {"x": 1})
B = ("b", "B", {"y": 2})
WHOLE_A, WHOLE_B = (0, "a", "A", '{"x":1}'), (1, "b", "B", '{"y":2}')
STREAMS: dict[str, tuple[list[bytes], list[Any], str]] = {
    "S02 an empty first delta": (
        [d(role="assistant", content=""), d(content="x"), fin("stop")],
        ["x"],
        "end_turn",
    ),
    "S03 all in one chunk": (
        [
            event(
                {
                    "choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
                }
            ),
            DONE,
        ],
        ["x"],
        "end_turn",
    ),
    "S04 a tool call in pieces": (
        [
            tc(0, "a", "A", ""),
            tc(0, None, None, '{"x":'),
            tc(0, None, None, "1}"),
            fin("tool_calls"),
        ],
        [A],
        "tool_use",
    ),
    "S05 parallel calls, interleaved": (
        [
            tc(0, "a", "A", '{"x"'),
            tc(1, "b", "B", '{"y"'),
            tc(0, None, None, ":1}"),
            tc(1, None, None, ":2}"),
            fin("tool_calls"),
        ],
        [A, B],
        "tool_use",
    ),
    "S06 two calls in one delta": (
        [d(tool_calls=[call_delta(*WHOLE_A), call_delta(*WHOLE_B)]), fin("tool_calls")],
        [A, B],
        "tool_use",
    ),
    "S06 a whole call after text": (
        [d(content="x"), tc(*WHOLE_A), fin("tool_calls")],
        ["x", A],
        "tool_use",
    ),
    "S07 no index": (
        [tc(None, *WHOLE_A[1:]), tc(None, *WHOLE_B[1:]), fin("stop")],
        [A, B],
        "tool_use",
    ),
    "S07 no index, in pieces": (
        [
            tc(None, "a", "A", '{"x":'),
            tc(None, None, None, "1}"),
            tc(None, "b", "B", ""),
            tc(None, "b", None, '{"y":2}'),
            fin("stop"),
        ],
        [A, B],
        "tool_use",
    ),
    "S08 every call has index 0": (
        [tc(*WHOLE_A), tc(0, *WHOLE_B[1:]), fin("stop")],
        [A, B],
        "tool_use",
    ),
    "S08 every call has index 0 and no id": (
        [
            d(tool_calls=[call_delta(0, "a", "A", '{"x":1}')]),
            d(tool_calls=[call_delta(0, "b", "A", '{"y":2}')]),
            fin("stop"),
        ],
        [A, ("b", "A", {"y": 2})],
        "tool_use",
    ),
    "S09 id and name in every delta": (
        [tc(0, "a", "A", '{"x":'), tc(0, "a", "A", "1}"), fin("tool_calls")],
        [A],
        "tool_use",
    ),
    "S09 a new id in every delta": (
        [tc(0, "a", "A", '{"x":'), tc(0, "other", None, "1}"), fin("tool_calls")],
        [A],
        "tool_use",
    ),
    "S09 empty id and name later": (
        [tc(0, "a", "A", '{"x":'), tc(0, "", "", "1}"), fin("tool_calls")],
        [A],
        "tool_use",
    ),
    "S10 arguments first": (
        [
            tc(0, None, None, '{"x":'),
            tc(0, "a", "A"),
            tc(0, None, None, "1}"),
            fin("tool_calls"),
        ],
        [A],
        "tool_use",
    ),
    "S14 text, tool, text": (
        [d(content="x"), tc(*WHOLE_A), d(content="y"), fin("stop")],
        ["x", A, "y"],
        "tool_use",
    ),
    "white space alone opens nothing": (
        [d(content="\n\n"), tc(*WHOLE_A), d(content="  "), fin("tool_calls")],
        [A],
        "tool_use",
    ),
    "leading white space belongs to the text": (
        [d(content="\n "), d(content="x"), fin("stop")],
        ["\n x"],
        "end_turn",
    ),
    "S18 no end mark": ([d(content="x"), fin("stop")], ["x"], "end_turn"),
    "S20 no finish reason after text": ([d(content="x"), DONE], ["x"], "end_turn"),
    "S20 no finish reason after a tool": ([tc(*WHOLE_A), DONE], [A], "tool_use"),
    "a later reason is stronger": (
        [d(content="x"), fin("stop"), fin("length"), DONE],
        ["x"],
        "max_tokens",
    ),
    "the first reason stays": (
        [d(content="x"), fin("length"), fin("stop"), DONE],
        ["x"],
        "max_tokens",
    ),
    "content after the finish": (
        [d(content="x"), fin("stop"), d(content="y"), DONE],
        ["xy"],
        "end_turn",
    ),
    "S25 nothing at all": ([d(role="assistant"), fin("stop"), DONE], [], "end_turn"),
    "S27 arguments as an object": (
        [tc(0, "a", "A", {"x": 1}), fin("tool_calls")],
        [A],
        "tool_use",
    ),
    "S28 cut for its length, but whole": (
        [tc(*WHOLE_A), fin("length")],
        [A],
        "max_tokens",
    ),
    "S31 chunks that say nothing": (
        [
            event({"choices": None}),
            event({"choices": [{"delta": None}], "usage": None}),
            event({"choices": [None]}),
            b"data: null\n\ndata:\n\ndata: 5\n\ndata: []\n\n: comment\n\n",
            d(content="x"),
            fin("stop"),
        ],
        ["x"],
        "end_turn",
    ),
    "S32 no arguments": ([tc(0, "a", "A", ""), fin("tool_calls")], [("a", "A", {})], "tool_use"),
    "S33 garbage": (
        [d(content="x"), b"data: {bad\n\n", d(content="y"), fin("stop")],
        ["xy"],
        "end_turn",
    ),
    "a filtered answer": ([d(content="x"), fin("content_filter")], ["x"], "refusal"),
    "a refusal": ([d(refusal="no"), fin("stop")], ["no"], "refusal"),
    "parts": (
        [d(content=[{"type": "text", "text": "x"}]), fin("stop")],
        ["x"],
        "end_turn",
    ),
    "a message instead of a delta": (
        [event({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]})],
        ["x"],
        "end_turn",
    ),
    "a call that never gets a name": (
        [tc(0, "a", None, ""), tc(1, "b", "B", '{"y":2}'), fin("tool_calls")],
        [B],
        "tool_use",
    ),
    "a call with arguments but no name": (
        [tc(0, "a", None, '{"x":1}'), fin("tool_calls")],
        [("a", "unknown_tool", {"x": 1})],
        "tool_use",
    ),
    "arguments that lack their end": (
        [tc(0, "a", "A", '{"x":[1,{"k":"v'), fin("tool_calls")],
        [("a", "A", {"x": [1, {"k": "v"}]})],
        "tool_use",
    ),
    "arguments that end in the middle of a word": (
        [tc(0, "a", "A", '{"x":tr'), fin("stop")],
        [("a", "A", {"x": True})],
        "tool_use",
    ),
    "arguments that are no object": (
        [tc(0, "a", "A", "[1"), tc(0, None, None, ",2]"), fin("stop")],
        [("a", "A", {})],
        "tool_use",
    ),
    "JSON in JSON": (
        [tc(0, "a", "A", '"{\\"x\\"'), tc(0, None, None, ':1}"'), fin("stop")],
        [A],
        "tool_use",
    ),
    "a placeholder before the arguments": (
        [tc(0, "a", "A", "{}"), tc(0, None, None, '{"x":1}'), fin("stop")],
        [A],
        "tool_use",
    ),
    "arguments repeated at the end": (
        [tc(*WHOLE_A), tc(0, None, None, '{"x":1}'), fin("stop")],
        [A],
        "tool_use",
    ),
    "a legacy function call": (
        [
            d(function_call={"name": "A", "arguments": '{"x":'}),
            d(function_call={"arguments": "1}"}),
            fin("function_call"),
        ],
        [(None, "A", {"x": 1})],
        "tool_use",
    ),
    "half an emoji in each of two chunks": (
        [
            b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"\\ude00b"}}]}\n\n',
            fin("stop"),
        ],
        ["a\U0001f600b"],
        "end_turn",
    ),
    "half an emoji at the end": (
        [b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n', fin("stop")],
        ["a\ufffd"],
        "end_turn",
    ),
}


@pytest.mark.parametrize(("chunks", "content", "reason"), STREAMS.values(), ids=STREAMS)
def test_what_the_client_gets(chunks: list[bytes], content: list[Any], reason: str) -> None:
    events = streamed(*chunks)

    got = [
        (None, *block[1:]) if isinstance(block, tuple) and block[0].startswith("toolu_") else block
        for block in said(events)
    ]
    assert got == content
    assert ending(events)["delta"]["stop_reason"] == reason
    assert kinds(events)[-1] == "message_stop"


def test_s04_a_tool_call_is_passed_on_as_it_grows() -> None:
    reader = way_back().open_stream()

    assert kinds(events_in(reader.feed(tc(0, "a", "A", ""))))[-1] == "content_block_start"
    (delta,) = events_in(reader.feed(tc(0, None, None, '{"x":')))
    assert delta["delta"] == {"type": "input_json_delta", "partial_json": '{"x":'}
    (delta,) = events_in(reader.feed(tc(0, None, None, "1}")))
    assert delta["delta"]["partial_json"] == "1}"


def test_a_call_that_is_told_in_the_old_form_as_well_is_one_call() -> None:
    def both(arguments: str) -> bytes:  # llama-cpp-python
        function = {"name": "A", "arguments": arguments}
        return d(function_call=function, tool_calls=[call_delta(0, "a", "A", arguments)])

    assert said(streamed(both('{"x"'), both(":1}"), fin("tool_calls"))) == [A]


def test_calls_may_be_held_back_until_they_are_whole() -> None:
    reader = way_back(buffer_tool_args=True).open_stream()

    assert reader.feed(tc(0, "a", "A", '{"x":')) == b""
    assert not reader.content_begun
    events = events_in(reader.feed(tc(0, None, None, "1}")))
    assert kinds(events)[-2:] == ["content_block_start", "content_block_delta"]
    broken = streamed(tc(0, "a", "A", '{"x":1,}'), fin("stop"), buffer_tool_args=True)
    assert said(broken) == [A]


def test_s28_a_call_that_was_cut_for_its_length_stays_cut() -> None:
    events = streamed(tc(0, "a", "A", '{"x":'), fin("length"))

    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert deltas == [{"type": "input_json_delta", "partial_json": '{"x":'}]
    assert ending(events)["delta"]["stop_reason"] == "max_tokens"


RAW = {
    "a line break": ['{"x":"a\nb', '"}'],
    "at the seam": ['{"x":"a', '\nb"', "}"],
    "behind a backslash": ['{"x":"a\\', '\nb"}'],
    "between the fields": ['{\n\t"x":\n"a\\nb"', "\n}\n"],
}


@pytest.mark.parametrize("pieces", RAW.values(), ids=RAW)
def test_raw_line_breaks_in_arguments_are_escaped(pieces: list[str]) -> None:
    chunks = [tc(0, "a", "A", piece) for piece in pieces]

    assert said(streamed(*chunks, fin("tool_calls"))) == [("a", "A", {"x": "a\nb"})]


@pytest.mark.parametrize("end", ["words", "a quote \\"], ids=["text", "half an escape"])
def test_a_very_long_call_that_breaks_off_is_closed_all_the_same(end: str) -> None:
    start, line = tc(0, "a", "A", '{"x":[{"y":"'), tc(0, None, None, "line\\n" * 100)
    (block,) = blocks_in(streamed(start, *[line] * 200, tc(0, None, None, end), fin("stop")))

    (item,) = block["input"]["x"]
    assert item["y"].startswith("line\nline\n")
    assert len(item["y"]) > 100_000


def test_s32_a_call_without_arguments_gets_an_empty_object() -> None:
    events = streamed(tc(0, "a", "A", ""), fin("tool_calls"))

    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert deltas == [{"type": "input_json_delta", "partial_json": "{}"}]


REASONING = {
    "S11 reasoning_content": [d(reasoning_content="r1"), d(reasoning_content="r2"), d(content="x")],
    "S13 reasoning": [d(reasoning="r1"), d(reasoning="r2"), d(content="x")],
    "S12 copies of one another": [
        d(reasoning="r1", reasoning_content="r1"),
        d(reasoning="r2", reasoning_content="r2"),
        d(content="x"),
    ],
    "details": [
        d(reasoning="r1", reasoning_details=[{"type": "reasoning.text", "text": "r1"}]),
        d(reasoning_details=[{"type": "reasoning.text", "text": "r2"}]),
        d(content="x"),
    ],
    "tags": [d(content="<thi"), d(content="nk>r1"), d(content="r2</th"), d(content="ink>\n\nx")],
    "tags in one chunk": [d(content="\n<think>r1r2</think>\n"), d(content="\nx")],
    "parts": [
        d(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "r1r2"}]}]),
        d(content="x"),
    ],
    "both in one delta": [d(reasoning_content="r1r2", content="x")],
    "white space between": [d(reasoning_content="r1r2"), d(content="\n\n"), d(content="x")],
}


@pytest.mark.parametrize("chunks", REASONING.values(), ids=REASONING)
def test_reasoning_becomes_thinking_for_those_who_asked(chunks: list[bytes]) -> None:
    events = streamed(*chunks, fin("stop"), asked=THINKING)
    thinking, text = blocks_in(events)

    assert (thinking["thinking"], text["text"].strip()) == ("r1r2", "x")
    assert envelope.is_minted(thinking["signature"])
    first = next(e for e in events if e["type"] == "content_block_start")
    assert first["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    stop = kinds(events).index("content_block_stop")
    assert events[stop - 1]["delta"]["type"] == "signature_delta"
    for other in (asking("hi", stream=True), {**THINKING, "thinking": {"type": "disabled"}}):
        assert [b.strip() for b in said(streamed(*chunks, fin("stop"), asked=other))] == ["x"]


def test_omitted_thinking_travels_in_the_signature() -> None:
    asked = {**THINKING, "thinking": {"type": "adaptive", "display": "omitted"}}
    events = streamed(
        d(reasoning="r1"), d(reasoning="r2"), d(content="x"), fin("stop"), asked=asked
    )

    thinking = blocks_in(events)[0]
    provenance = envelope.read(thinking["signature"])
    assert thinking["thinking"] == ""
    assert provenance is not None
    assert provenance.text == "r1r2"
    assert not any(
        e["type"] == "content_block_delta" and e["delta"]["type"] == "thinking_delta"
        for e in events
    )


def test_pieces_of_reasoning_details_are_put_together() -> None:
    def detail(words: str, **more: Any) -> bytes:
        return d(
            reasoning=words,
            reasoning_details=[{"type": "reasoning.text", "index": 0, "text": words, **more}],
        )

    events = streamed(
        detail("r1"), detail("r2", signature="s"), d(content="x"), DONE, asked=THINKING
    )
    provenance = envelope.read(blocks_in(events)[0]["signature"])
    assert provenance is not None
    assert provenance.details == [
        {"type": "reasoning.text", "index": 0, "text": "r1r2", "signature": "s"}
    ]


def test_thought_signatures_are_kept_with_the_thinking_before_them() -> None:
    signed = {"extra_content": {"google": {"thought_signature": "SIG"}}}
    events = streamed(
        d(reasoning_content="r"), tc(0, "a", "A", "{}", **signed), fin("stop"), asked=THINKING
    )
    provenance = envelope.read(blocks_in(events)[0]["signature"])
    assert provenance is not None
    assert provenance.thought_signatures == {"a": "SIG"}


def test_a_less_than_sign_is_no_tag() -> None:
    assert said(streamed(d(content="<"), d(content="b>x"), fin("stop"))) == ["<b>x"]
    assert said(streamed(d(content="<thi"), fin("stop"))) == ["<thi"]


def test_s15_one_message_delta_with_the_last_usage() -> None:
    events = streamed(
        d(content="x"),
        fin("stop"),
        event(
            {
                "choices": [{"delta": {}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1},
            }
        ),
        usage(prompt_tokens=10, completion_tokens=2),
        DONE,
    )
    assert ending(events)["usage"]["input_tokens"] == 10


def test_s18_usage_after_the_finish_counts() -> None:
    late = usage(
        prompt_tokens=100, completion_tokens=3, prompt_tokens_details={"cached_tokens": 64}
    )
    told = ending(streamed(d(content="x"), fin("stop"), late))["usage"]

    assert (told["input_tokens"], told["cache_read_input_tokens"]) == (36, 64)


def test_usage_may_stand_in_the_choice() -> None:
    figures = {"prompt_tokens": 9, "completion_tokens": 3}

    assert (
        ending(streamed(d(content="x"), fin("stop", usage=figures)))["usage"]["input_tokens"] == 9
    )


def test_known_usage_is_told_at_the_start() -> None:
    figures = {"prompt_tokens": 9, "completion_tokens": 1}
    first = event({"choices": [{"delta": {"content": "x"}}], "usage": figures})
    start = streamed(first, fin("stop"))[0]["message"]

    assert (start["usage"]["input_tokens"], start["usage"]["output_tokens"]) == (9, 0)


def test_u04_without_usage_both_figures_are_estimated() -> None:
    translation = way_back(asking("hello " * 100, stream=True))
    read_all(translation.open_stream(), [d(content="word " * 40), fin("stop"), DONE])

    assert translation.usage.estimated
    assert (translation.usage.input or 0) > 100
    assert (translation.usage.output or 0) > 40


def test_s17_single_newlines_and_an_unterminated_end() -> None:
    lines = b"".join([d(content="x"), d(content="y"), fin("stop")]).replace(b"\n\n", b"\n")

    assert said(streamed(lines)) == ["xy"]
    assert said(streamed(lines.rstrip(b"\n"))) == ["xy"]


def test_s19_silence_after_the_end_is_the_end() -> None:
    reader = way_back().open_stream()

    assert reader.quiet_end is None
    reader.feed(d(content="x"))
    assert reader.quiet_end is None
    reader.feed(fin("stop"))
    assert reader.quiet_end == 5.0
    reader.feed(USAGE)
    assert reader.quiet_end == 2.0
    events = events_in(reader.end())
    assert (kinds(events)[-1], reader.complete, reader.quiet_end) == ("message_stop", True, None)


def test_after_the_end_nothing_counts() -> None:
    reader = way_back().open_stream()
    read_all(reader, [d(content="x"), fin("stop"), DONE], ends=False)

    assert reader.complete
    assert reader.feed(d(content="y")) == b""
    assert reader.end() == b""


def test_s21_a_stream_that_is_cut_has_no_end() -> None:
    reader = way_back().open_stream()
    events = events_in(read_all(reader, [d(content="x"), tc(0, "a", "A", '{"x"')]))

    assert not reader.complete
    assert reader.error is None
    assert "message_delta" not in kinds(events)
    assert "message_stop" not in kinds(events)
    assert (reader.usage.output or 0) > 0


def test_content_begins_with_the_first_block() -> None:
    reader = way_back(THINKING).open_stream()

    for nothing in (b": comment\n\n", d(role="assistant"), d(content="\n"), d(reasoning="")):
        reader.feed(nothing)
        assert not reader.content_begun
    reader.feed(d(reasoning="r"))
    assert reader.content_begun


def test_s25_an_empty_answer_is_complete_without_content() -> None:
    reader = way_back().open_stream()
    events = events_in(read_all(reader, [d(role="assistant"), fin("stop"), DONE]))

    assert (reader.content_begun, reader.complete) == (False, True)
    assert kinds(events) == ["message_start", "ping", "message_delta", "message_stop"]


ERRORS = {
    "S22 beside a finish": (
        event(
            {
                "error": {"code": 502, "message": "Provider disconnected"},
                "choices": [{"delta": {"content": ""}, "finish_reason": "error"}],
            }
        ),
        "api_error",
        "Provider disconnected",
    ),
    "S23 an error event": (
        b'event: error\ndata: {"error":{"message":"rate limit","code":429}}\n\n',
        "rate_limit_error",
        "rate limit",
    ),
    "an error event that is the error": (
        b'event: error\ndata: {"message":"slow down","type":"rate_limit_error"}\n\n',
        "rate_limit_error",
        "slow down",
    ),
    "an error event that is no JSON": (
        b"event: error\ndata: it broke\n\n",
        "api_error",
        "it broke",
    ),
    "S23 a string": (event({"error": "boom"}), "api_error", "boom"),
    "vLLM": (
        event({"object": "error", "message": "bad", "code": 400}),
        "invalid_request_error",
        "bad",
    ),
    "code and message": (event({"code": 503, "message": "busy"}), "overloaded_error", "busy"),
    "a finish reason": (fin("error"), "api_error", "the provider broke off the reply (error)"),
    "DeepSeek": (
        fin("insufficient_system_resource"),
        "overloaded_error",
        "the provider broke off the reply (insufficient_system_resource)",
    ),
    "an error in the choice": (
        fin("error", error={"message": "no luck", "code": 429}),
        "rate_limit_error",
        "no luck",
    ),
    "a bare line": (b'{"error":{"message":"boom","code":500}}\n', "api_error", "boom"),
    "too much garbage": (
        b"data: {bad\n\n" * 21,
        "api_error",
        "the provider's stream cannot be read",
    ),
}


@pytest.mark.parametrize("before", [[], [d(content="x")]], ids=["first", "after content"])
@pytest.mark.parametrize(("chunk", "kind", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_in_the_stream(before: list[bytes], chunk: bytes, kind: str, message: str) -> None:
    reader = way_back().open_stream()
    events = events_in(read_all(reader, [*before, chunk, d(content="y"), DONE]))

    assert reader.error is not None
    assert (reader.error.type, reader.error.message) == (kind, message)
    assert not reader.complete
    assert reader.content_begun is bool(before)
    assert kinds(events)[-1] == "error"
    assert kinds(events).count("error") == 1
    assert events[-1]["error"] == {"type": kind, "message": f"{message} (provider fallback)"}
    assert "message_stop" not in kinds(events)


def test_a_line_without_end_is_not_held_forever() -> None:
    reader = way_back().open_stream()
    for _ in range(20):
        reader.feed(b"data: " + b"x" * 1_000_000)

    assert reader.error is not None
    assert reader.error.status == 502


def test_calls_that_are_held_back_are_bounded() -> None:
    reader = way_back().open_stream()
    reader.feed(tc(0, "a", "A", '{"x":"'))
    for _ in range(20):
        reader.feed(tc(1, "b", "B", '{"y":"' + "z" * 1_000_000))

    assert reader.error is not None


def test_the_stop_sequence_that_ended_a_stream() -> None:
    asked = asking("hi", stream=True, stop_sequences=["END"])
    events = streamed(d(content="x"), fin("stop", stop_reason="END"), asked=asked)

    assert ending(events)["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


def test_a_refusal_says_why() -> None:
    delta = ending(streamed(d(refusal="n"), d(refusal="o"), fin("stop")))["delta"]

    assert delta["stop_details"] == {"type": "refusal", "category": None, "explanation": "no"}


def test_the_headers_of_a_stream() -> None:
    headers = dict(way_back().response_headers([(b"server", b"x"), (b"set-cookie", b"y")]))

    assert headers == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-cache",
        b"x-accel-buffering": b"no",
        b"request-id": b"req_1",
    }
    whole = way_back(asking("hi")).response_headers([(b"content-type", b"application/json")])
    assert dict(whole) == {b"content-type": b"application/json", b"request-id": b"req_1"}


def test_frames_are_single_lines_whatever_the_text() -> None:
    words = 'a"\\\n\u2028\x00 ü\U0001f600'
    data = read_all(way_back().open_stream(), [d(content=words), fin("stop")])

    assert said(events_in(data)) == [words]
    assert all(len(frame.split(b"\n")) == 2 for frame in data.split(b"\n\n")[:-1])
    assert orjson.dumps(words) in data
