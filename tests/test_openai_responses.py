"""Whole Chat Completions as Anthropic messages, and their token usage."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from anthropic.types import Message

from proxy.errors import InvalidReply, UpstreamRefused
from proxy.formats import envelope
from proxy.formats.openai_chat.usage import read_counts
from proxy.wire import MessageReply
from tests.openai_dialect import (
    asking,
    assistant,
    call_delta,
    completion,
    events_in,
    kinds,
    said,
    text,
    tool,
    tool_result,
    tool_use,
    user,
    way_back,
)

THINKING = {"thinking": {"type": "adaptive"}}


def answer(
    message: dict[str, Any], finish: str | None = "stop", asked: Any = None, **fields: Any
) -> dict[str, Any]:
    """The message that the client gets, judged by the SDK's own type."""
    profile = fields.pop("profile", {})
    translation = way_back(asking("hi", **(asked or {})), **profile)
    reply = translation.read_message(completion(message, finish, **fields))
    Message.model_validate_json(reply.body, strict=False)
    read: dict[str, Any] = orjson.loads(reply.body)
    assert reply.empty is (read["content"] == [])
    return read


def short(message: dict[str, Any]) -> list[Any]:
    """The content in short, as `said` tells that of a stream."""
    content = []
    for block in message["content"]:
        match block["type"]:
            case "text":
                content.append(block["text"])
            case "thinking":
                content.append(("thinking", block["thinking"]))
            case _:
                content.append((block["id"], block["name"], block["input"]))
    return content


def test_n01_a_text() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    first, second = (answer({"content": "hi"}, usage=usage) for _ in range(2))

    assert first.pop("id") != second["id"]
    assert re.fullmatch(r"msg_[A-Za-z0-9]{20,}", second["id"])
    assert first == {
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 2,
        },
    }


CALL = {"tool_calls": [call_delta(0, "a", "Bash", "{}")]}
STOPS = {
    "stop": ({"content": "x"}, "stop", {}, ("end_turn", None)),
    "N02 length": ({"content": "x"}, "length", {}, ("max_tokens", None)),
    "N02 filtered": ({"content": "x"}, "content_filter", {}, ("refusal", None)),
    "filtered, GLM": ({"content": "x"}, "sensitive", {}, ("refusal", None)),
    "window": ({"content": "x"}, "model_length", {}, ("model_context_window_exceeded", None)),
    "N04 a tool, whatever the reason": (CALL, "stop", {}, ("tool_use", None)),
    "a tool cut for its length": (CALL, "length", {}, ("max_tokens", None)),
    "N13 a requested sequence": (
        {"content": "x"},
        "stop",
        {"stop_reason": "</block>"},
        ("stop_sequence", "</block>"),
    ),
    "N13 SGLang": (
        {"content": "x"},
        "stop",
        {"matched_stop": "</block>"},
        ("stop_sequence", "</block>"),
    ),
    "N13 a token id": ({"content": "x"}, "stop", {"stop_reason": 128009}, ("end_turn", None)),
    "a sequence that was not requested": (
        {"content": "x"},
        "stop",
        {"stop_reason": "other"},
        ("end_turn", None),
    ),
    "N15 unknown": ({"content": "x"}, "eos", {}, ("end_turn", None)),
    "none": ({"content": "x"}, None, {}, ("end_turn", None)),
    "tool_calls without any": ({"content": "x"}, "tool_calls", {}, ("end_turn", None)),
}


@pytest.mark.parametrize(("message", "finish", "choice", "expected"), STOPS.values(), ids=STOPS)
def test_stop_reasons(message: Any, finish: str, choice: Any, expected: Any) -> None:
    read = answer(message, finish, {"stop_sequences": ["</block>"]}, **choice)

    assert (read["stop_reason"], read["stop_sequence"]) == expected
    assert ("stop_details" in read) is (expected[0] == "refusal")


def test_n03_a_refusal() -> None:
    read = answer({"content": None, "refusal": "no"})

    assert short(read) == ["no"]
    assert read["stop_reason"] == "refusal"
    assert read["stop_details"] == {"type": "refusal", "category": None, "explanation": "no"}


def test_n08_content_in_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]
    read = answer({"content": parts})

    assert short(read) == ["a", "b"]
    assert read["stop_reason"] == "refusal"


ARGUMENTS = {
    "N05 empty": ("", {}),
    "N05 null": (None, {}),
    "N05 blank": ("  ", {}),
    "N05 an object": ({"a": 1}, {"a": 1}),
    "N05 JSON in JSON": ('"{\\"a\\":1}"', {"a": 1}),
    "N05 a list": ("[1]", {}),
    "N05 a trailing comma": ('{"a":1,}', {"a": 1}),
    "N05 garbage": ("garbage", {}),
    "null as text": ("null", {}),
    "a code fence": ('```json\n{"a": 1}\n```', {"a": 1}),
    "a missing end": ('{"a": {"b": [1, 2', {"a": {"b": [1, 2]}}),
    "a string without its end": ('{"a": "x', {"a": "x"}),
    "raw newlines": ('{"a": "x\ny"}', {"a": "x\ny"}),
    "something behind it": ('{"a": 1} done', {"a": 1}),
    "text with brackets in it": ('{"a": "}]\\"{", "b": 2,}', {"a": '}]"{', "b": 2}),
}


@pytest.mark.parametrize(("arguments", "expected"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_are_always_an_object(arguments: Any, expected: Any) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "B", "arguments": arguments}}

    assert short(answer({"content": None, "tool_calls": [call]})) == [("a", "B", expected)]


def test_tool_ids_are_legal_and_new_in_the_conversation() -> None:
    asked = asking(
        "go",
        assistant(tool_use("call_0"), tool_use("x")),
        user(tool_result("call_0"), tool_result("x")),
        tools=[tool("Bash")],
    )
    calls = [
        call_delta(0, tool_id, "Bash", "{}")
        for tool_id in ("call_0", "call_0", "functions.Bash:0", "", None)
    ]
    reply = way_back(asked).read_message(completion({"tool_calls": calls}))
    ids = [block["id"] for block in orjson.loads(reply.body)["content"]]

    assert ids[2] == "functions_Bash_0"
    assert all(is_fresh(tool_id) for number, tool_id in enumerate(ids) if number != 2)
    assert len(set(ids)) == 5


def is_fresh(tool_id: str) -> bool:
    return re.fullmatch(r"toolu_[A-Za-z0-9]{24}", tool_id) is not None


LOOK_ALIKES: dict[str, tuple[str, list[str]]] = {
    "a number behind an id of the history": ("call_0", ["call_0_2"]),
    "less than an id of the history": ("call_0_2", ["call_0"]),
    "a number behind an id of this reply": ("x", ["call_1", "call_1_1"]),
    "less than an id of this reply": ("x", ["call_1_1", "call_1"]),
}


@pytest.mark.parametrize(("earlier", "upstream"), LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_no_tool_id_looks_like_a_part_of_another_call(earlier: str, upstream: list[str]) -> None:
    # Claude Code takes `call_0_2` for a part of `call_0`, and forgets its result.
    asked = asking("go", assistant(tool_use(earlier)), user(tool_result(earlier)))
    calls = [call_delta(number, tool_id, "A", "{}") for number, tool_id in enumerate(upstream)]
    whole = way_back(asked).read_message(completion({"tool_calls": calls}))
    *others, last = [block["id"] for block in orjson.loads(whole.body)["content"]]

    assert is_fresh(last)
    assert others == upstream[:-1]


def test_numbered_tool_ids_that_look_like_no_other_stay() -> None:
    asked = asking("go", assistant(tool_use("call_0")), user(tool_result("call_0")))
    calls = [call_delta(number, f"call_{number}", "A", "{}") for number in (1, 2)]
    whole = way_back(asked).read_message(completion({"tool_calls": calls}))
    assert [block["id"] for block in orjson.loads(whole.body)["content"]] == ["call_1", "call_2"]


def test_tool_names_are_the_clients_again() -> None:
    asked = asking("go", tools=[tool("a.b")])
    reply = way_back(asked).read_message(
        completion(
            {"tool_calls": [call_delta(0, "x", "a_b", "{}"), call_delta(1, "y", None, "{}")]}
        )
    )
    names = [block["name"] for block in orjson.loads(reply.body)["content"]]
    assert names == ["a.b", "unknown_tool"]


def test_a_call_that_is_told_in_the_old_form_as_well_is_one_call() -> None:
    function = {"name": "F", "arguments": '{"a":1}'}
    call = {"id": "x", "type": "function", "function": function}
    told = answer({"content": None, "function_call": function, "tool_calls": [call]})

    assert short(told) == [("x", "F", {"a": 1})]


def test_n09_a_legacy_function_call() -> None:
    ((tool_id, name, arguments),) = short(
        answer({"content": None, "function_call": {"name": "F", "arguments": '{"a":1}'}})
    )
    assert tool_id.startswith("toolu_")
    assert (name, arguments) == ("F", {"a": 1})


REASONED = {
    "N07 reasoning_content": {"reasoning_content": "r", "content": "x"},
    "reasoning": {"reasoning": "r", "content": "x"},
    "copies of one another": {"reasoning_content": "r", "reasoning": "r", "content": "x"},
    "details alone": {
        "reasoning_details": [{"type": "reasoning.text", "text": "r"}],
        "content": "x",
    },
    "N14 tags": {"content": "<think>r</think>\n\nx"},
    "Mistral's parts": {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "r"}]},
            {"type": "text", "text": "x"},
        ]
    },
}


@pytest.mark.parametrize("message", REASONED.values(), ids=REASONED)
def test_reasoning_is_a_thinking_block_for_those_who_asked(message: Any) -> None:
    read = answer(message, asked=THINKING)

    assert short(read) == [("thinking", "r"), "x"]
    provenance = envelope.read(read["content"][0]["signature"])
    assert provenance is not None
    assert provenance.provider == "7"
    for asked in ({}, {"thinking": {"type": "disabled"}}):
        assert short(answer(message, asked=asked)) == ["x"]


def test_omitted_thinking_travels_in_the_signature() -> None:
    asked = {"thinking": {"type": "adaptive", "display": "omitted"}}
    read = answer({"reasoning_content": "r", "content": "x"}, asked=asked)

    assert short(read) == [("thinking", ""), "x"]
    provenance = envelope.read(read["content"][0]["signature"])
    assert provenance is not None
    assert (provenance.text, provenance.source) == ("r", "reasoning_content")


def test_tags_may_be_left_alone() -> None:
    tagged = {"content": "<think>r</think>x"}

    assert short(answer(tagged, profile={"think_tags": "off"})) == ["<think>r</think>x"]


@pytest.mark.parametrize("content", ["", None, " \n", []], ids=repr)
def test_n11_an_empty_answer_is_marked_and_has_no_blocks(content: Any) -> None:
    read = answer({"content": content})

    assert (read["content"], read["stop_reason"]) == ([], "end_turn")


NO_ANSWERS = {
    "N12 no choices": b'{"choices":[]}',
    "N12 choices missing": b'{"id":"x"}',
    "N12 HTML": b"<html>Welcome</html>",
    "empty": b"",
    "a list": b"[]",
    "no message": b'{"choices":[{"finish_reason":"stop"}]}',
}


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_is_a_failure(body: bytes) -> None:
    with pytest.raises(InvalidReply):
        way_back().read_message(body)


FAILURES = {
    "an error object": (b'{"error":{"message":"m","code":429}}', 429, "rate_limit_error"),
    "an error beside choices": (
        b'{"error":{"message":"m"},"choices":[{"message":{"content":""}}]}',
        502,
        "api_error",
    ),
    "an error string": (b'{"error":"m"}', 502, "api_error"),
    "Google's list": (b'[{"error":{"code":503,"message":"m"}}]', 503, "overloaded_error"),
    "vLLM": (b'{"object":"error","message":"m","code":400}', 400, "invalid_request_error"),
    "MiniMax": (
        b'{"base_resp":{"status_code":1008,"status_msg":"m"},"choices":null}',
        402,
        "billing_error",
    ),
    "a choice's error": (
        completion({"content": ""}, "error", error={"message": "m"}),
        502,
        "api_error",
    ),
}


@pytest.mark.parametrize(("body", "status", "kind"), FAILURES.values(), ids=FAILURES)
def test_an_error_inside_a_success_is_an_error(body: bytes, status: int, kind: str) -> None:
    with pytest.raises(UpstreamRefused) as refused:
        way_back().read_message(body)

    reply = refused.value.reply
    assert (reply.status, reply.type, reply.message) == (status, kind, "m")
    assert reply.upstream_status == 200


@pytest.mark.parametrize(
    ("finish", "status"),
    [("insufficient_system_resource", 529), ("error", 502), ("network_error", 502), ("abort", 502)],
)
def test_n15_some_finish_reasons_are_failures(finish: str, status: int) -> None:
    with pytest.raises(UpstreamRefused) as refused:
        way_back().read_message(completion({"content": "x"}, finish))

    assert refused.value.reply.status == status


# -- usage -----------------------------------------------------------------------------------

USAGES = {
    "U01 cached": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 600},
        },
        (400, 600, 0, 50),
    ),
    "U02 cache written": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 300},
        },
        (100, 600, 300, 50),
    ),
    "U02 more cached than there is": (
        {"prompt_tokens": 10, "completion_tokens": 1, "cached_tokens": 20},
        (0, 20, 0, 1),
    ),
    "U03 DeepSeek": (
        {"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 4},
        (6, 4, 0, 1),
    ),
    "Anthropic's names": (
        {"input_tokens": 10, "output_tokens": 1, "cache_creation_input_tokens": 3},
        (7, 0, 3, 1),
    ),
    "U05 xAI counts reasoning apart": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 45,
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        (10, 0, 0, 35),
    ),
    "text that is a number": ({"prompt_tokens": "10", "completion_tokens": 1.0}, (10, 0, 0, 1)),
}


@pytest.mark.parametrize(("usage", "expected"), USAGES.values(), ids=USAGES)
def test_usage_is_counted_as_anthropic_does(usage: Any, expected: Any) -> None:
    translation = way_back(asking("hi"))
    read = orjson.loads(translation.read_message(completion({"content": "x"}, usage=usage)).body)
    names = ("input", "cache_read_input", "cache_creation_input", "output")

    assert tuple(read["usage"][f"{name}_tokens"] for name in names) == expected
    kept = translation.usage
    assert (kept.input, kept.cache_read, kept.cache_creation, kept.output) == expected
    assert not kept.estimated


def test_u05_reasoning_tokens_are_told() -> None:
    details = {"reasoning_tokens": 30}
    usage = {"prompt_tokens": 1, "completion_tokens": 40, "completion_tokens_details": details}
    read = answer({"content": "x"}, usage=usage)

    assert read["usage"]["output_tokens_details"] == {"thinking_tokens": 30}
    assert read["usage"]["output_tokens"] == 40


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": True},
        [],
        "x",
        {"prompt_tokens": 1e300},
    ],
    ids=repr,
)
def test_u04_usage_that_is_not_known_is_estimated(usage: Any) -> None:
    translation = way_back(asking("hello " * 100))
    translation.read_message(completion({"content": "word " * 40}, usage=usage))

    assert translation.usage.estimated
    assert 100 <= (translation.usage.input or 0) <= 400
    assert 40 <= (translation.usage.output or 0) <= 80


def test_the_estimate_takes_images_for_what_they_are() -> None:
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "A" * 2_000_000},
    }
    translation = way_back(asking(user(image)))
    translation.read_message(completion({"content": "x"}))

    assert 1000 < (translation.usage.input or 0) < 5000


def test_absurd_figures_are_no_figures() -> None:
    counts = read_counts(
        {"prompt_tokens": -5, "completion_tokens": "9" * 40},
        input_estimate=7,
        output_estimate=3,
    )
    assert (counts.input, counts.output) == (7, 3)


# -- a message as a stream -------------------------------------------------------------------


def test_s26_a_whole_message_can_be_told_as_a_stream() -> None:
    translation = way_back(asking("hi", stream=True, **THINKING))
    message = translation.read_message(
        completion(
            {
                "reasoning_content": "r",
                "content": "x",
                "tool_calls": [call_delta(0, "a", "Bash", '{"c":1}')],
            },
            "tool_calls",
            usage={"prompt_tokens": 10, "completion_tokens": 2},
        )
    )
    events = events_in(translation.replay(message))

    assert said(events) == [("thinking", "r"), "x", ("a", "Bash", {"c": 1})]
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == 2
    assert events[0]["message"]["usage"]["input_tokens"] == 10


def test_an_empty_message_is_told_as_an_empty_stream() -> None:
    body = way_back().read_message(completion({"content": ""})).body
    events = events_in(way_back().replay(MessageReply(body)))

    assert kinds(events) == ["message_start", "ping", "message_delta", "message_stop"]


def test_answers_come_back_as_history() -> None:
    """P-6: what was answered converts again, and our thinking reaches its maker."""
    first = answer(
        {"reasoning_content": "r", "content": "x", **CALL}, asked=THINKING, finish="tool_calls"
    )
    tool_id = first["content"][-1]["id"]
    again = asking(
        "hi",
        {"role": "assistant", "content": first["content"]},
        user(tool_result(tool_id), text("and?")),
        **THINKING,
    )
    second = way_back(again, reasoning_history="reasoning_content")

    assert second.read_message(completion({"content": "y"})).empty is False
    assert envelope.strip_minted(again, "7") is None
    stripped = envelope.strip_minted(again, "8")
    assert stripped is not None
    assert [b["type"] for b in stripped["messages"][1]["content"]] == ["text", "tool_use"]
