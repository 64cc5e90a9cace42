"""Whole requests to Chat Completions providers: parameters, headers, refusals."""

from __future__ import annotations

import copy
import gc
import re
from typing import Any

import orjson
import pytest

from proxy.call import Call
from proxy.errors import AnswerLocally, RequestRefused
from proxy.formats.openai_chat import OPENAI_CHAT
from proxy.formats.openai_chat.profile import profile_for
from proxy.formats.openai_chat.reasoning_history import THOUGHT_SIGNATURE_SENTINEL
from proxy.formats.openai_chat.request import convert
from tests.openai_dialect import (
    GENERIC,
    IMAGE,
    LOOP,
    PDF,
    SCHEMA,
    THINKING,
    WEB_SEARCH,
    asking,
    assistant,
    call_of,
    call_with,
    events_in,
    kinds,
    messages_sent,
    own_thinking,
    sent,
    target,
    text,
    tool,
    tool_result,
    tool_use,
    user,
)

# -- parameters ------------------------------------------------------------------------------


def test_q31_stop_sequences() -> None:
    assert sent(asking("hi", stop_sequences=["a", "", "b", "c", "d", "e"]))["stop"] == [
        *("a", "b", "c", "d")
    ]
    assert "stop" not in sent(asking("hi", stop_sequences=[]))
    assert "stop" not in sent(asking("hi", stop_sequences=["a"]), stop_max=0)


def test_q32_the_output_limit() -> None:
    body = sent(asking("hi"), "openai")
    assert (body["max_completion_tokens"], "max_tokens" in body) == (100, False)
    assert sent(asking("hi", max_tokens=32000), max_output_tokens=8192)["max_tokens"] == 8192
    without = {key: value for key, value in asking("hi").items() if key != "max_tokens"}
    assert sent(without)["max_tokens"] == 8192


def test_q33_the_user_id_is_hashed_or_left_out() -> None:
    document = asking("hi", metadata={"user_id": '{"device_id":"' + "d" * 160 + '"}'})

    assert "user" not in sent(document)
    assert re.fullmatch(r"[0-9a-f]{32,64}", sent(document, user_field="hash")["user"])


def test_the_session_may_key_the_prompt_cache() -> None:
    call = call_of(asking("hi"), session_id="abc")
    request, _ = OPENAI_CHAT.translate(call, target(prompt_cache_key=True))

    assert re.fullmatch(r"[0-9a-f]{32}", orjson.loads(request.body)["prompt_cache_key"])


def enabled(budget: int) -> dict[str, Any]:
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


ADAPTIVE = {"thinking": {"type": "adaptive"}}
EFFORT = {"reasoning_param": "reasoning_effort"}
XHIGH = {**EFFORT, "effort_levels": ["low", "medium", "high", "xhigh"]}
MAX = {**EFFORT, "effort_levels": ["low", "high", "max"]}


def effort(level: str) -> dict[str, Any]:
    return {"output_config": {"effort": level}}


OFF = {"thinking": {"type": "disabled"}, **effort("high")}
REASONING = {
    "Q35 small budget": (enabled(2000), EFFORT, {"reasoning_effort": "low"}),
    "Q35 medium budget": (enabled(8000), EFFORT, {"reasoning_effort": "medium"}),
    "Q35 large budget": (enabled(30000), EFFORT, {"reasoning_effort": "high"}),
    "Q35 no dialect": (enabled(30000), {}, {}),
    "Q36 max, up to high": (ADAPTIVE | effort("max"), EFFORT, {"reasoning_effort": "high"}),
    "Q36 max, up to xhigh": (ADAPTIVE | effort("max"), XHIGH, {"reasoning_effort": "xhigh"}),
    "Q36 max": (ADAPTIVE | effort("max"), MAX, {"reasoning_effort": "max"}),
    "Q36 the effort beats the budget": (
        enabled(30000) | effort("low"),
        EFFORT,
        {"reasoning_effort": "low"},
    ),
    "adaptive alone": (ADAPTIVE, EFFORT, {"reasoning_effort": "high"}),
    "an effort alone": (effort("medium"), EFFORT, {"reasoning_effort": "medium"}),
    "nothing said": ({}, EFFORT, {}),
    "an effort that is none": (effort("extreme"), EFFORT, {}),
    "nothing as low": (
        effort("low"),
        {**EFFORT, "effort_levels": ["high"]},
        {"reasoning_effort": "high"},
    ),
    "Q37 off, OpenRouter": (OFF, {"preset": "openrouter"}, {"reasoning": {"enabled": False}}),
    "Q37 off, DeepSeek": (OFF, {"preset": "deepseek"}, {"thinking": {"type": "disabled"}}),
    "Q37 off, generic": (OFF, {}, {}),
    "off, none is a level": (
        OFF,
        {**EFFORT, "effort_levels": ["none", "low"]},
        {"reasoning_effort": "none"},
    ),
    "off, none is no level": (OFF, EFFORT, {}),
    "OpenRouter": (ADAPTIVE, {"preset": "openrouter"}, {"reasoning": {"effort": "high"}}),
    "DeepSeek, medium": (
        effort("medium"),
        {"preset": "deepseek"},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
    ),
    "DeepSeek, max": (
        effort("max"),
        {"preset": "deepseek"},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "max"},
    ),
    "Qwen": (ADAPTIVE, {"preset": "qwen"}, {"enable_thinking": True}),
    "GLM": (ADAPTIVE, {"preset": "glm"}, {"thinking": {"type": "enabled"}}),
    "vLLM template": (
        OFF,
        {"reasoning_param": "chat_template_kwargs"},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ),
}
_REASONING_KEYS = (
    *("reasoning_effort", "reasoning", "thinking", "enable_thinking", "chat_template_kwargs"),
)


@pytest.mark.parametrize(("asked", "profile", "expected"), REASONING.values(), ids=REASONING)
def test_reasoning(asked: Any, profile: Any, expected: Any) -> None:
    body = sent(asking("hi", **asked), **profile)

    assert {key: body[key] for key in _REASONING_KEYS if key in body} == expected


def test_k18_an_effort_can_be_forced_where_tools_are_sent() -> None:
    forced = {"reasoning_effort_override": "none"}

    assert sent(asking("hi", tools=[tool("Bash")]), **forced)["reasoning_effort"] == "none"
    assert "reasoning_effort" not in sent(asking("hi"), **forced)


OPTIONAL = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED = {**OPTIONAL, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize("schema", [OPTIONAL, CLOSED], ids=["optional", "closed"])
@pytest.mark.parametrize("legacy", [False, True], ids=["output_config", "output_format"])
def test_q39_structured_output(schema: Any, legacy: bool) -> None:
    wanted = {"type": "json_schema", "schema": schema}
    asked = {"output_format": wanted} if legacy else {"output_config": {"format": wanted}}

    assert sent(asking("hi", **asked))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "response", "schema": schema, "strict": schema is CLOSED},
    }


def test_structured_output_steps_down_to_words() -> None:
    document = asking(
        "hi", system="S", output_config={"format": {"type": "json_schema", "schema": CLOSED}}
    )
    objects = sent(document, structured_output="json_object")
    words = sent(document, structured_output="none")

    assert objects["response_format"] == {"type": "json_object"}
    assert "response_format" not in words
    for body in (objects, words):
        system = body["messages"][0]["content"]
        assert system.startswith("S\n\n")
        assert system.endswith(orjson.dumps(CLOSED).decode())


def test_q40_sampling() -> None:
    document = asking("hi", temperature=0.2, top_p=0.9, top_k=5)

    generic = sent(document)
    assert (generic["temperature"], generic["top_p"], "top_k" in generic) == (0.2, 0.9, False)
    assert sent(document, preset="vllm")["top_k"] == 5
    assert not {"temperature", "top_p"} & sent(document, sampling="drop").keys()
    assert "temperature" not in sent(document, "openai", "gpt-5.1")
    assert "temperature" in sent(document, "openai", "gpt-4o")


def test_q41_fields_of_anthropics_own_are_dropped_and_counted() -> None:
    extra = {
        name: {"x": 1}
        for name in ("context_management", "service_tier", "container", "mcp_servers", "foo")
    }
    document = asking(
        user(text("x", cache_control={"type": "ephemeral"})),
        tools=[WEB_SEARCH, tool("Bash", cache_control={"type": "ephemeral"})],
        **extra,
    )
    request, translation = OPENAI_CHAT.translate(call_of(document), target())

    assert orjson.loads(request.body).keys() == {"model", "messages", "max_tokens", "tools"}
    assert translation.dropped == {
        "cache_control": 2,
        "tools.web_search": 1,
        **dict.fromkeys(extra, 1),
    }


OMISSIONS: dict[str, tuple[Any, Any, dict[str, int]]] = {
    "a lower limit": ({"max_tokens": 9000}, {"max_output_tokens": 8192}, {"max_tokens": 1}),
    "the same limit": ({"max_tokens": 8192}, {"max_output_tokens": 8192}, {}),
    "a renamed limit": ({}, {"max_tokens_field": "max_completion_tokens"}, {}),
    "thinking, unheard": (ADAPTIVE, {}, {"thinking": 1}),
    "an effort, unheard": (effort("high"), {}, {"output_config.effort": 1}),
    "thinking, heard": (ADAPTIVE | effort("high"), EFFORT, {}),
    "thinking that is off": ({"thinking": {"type": "disabled"}}, {}, {}),
    "a budget for the task": (
        {"output_config": {"task_budget": {"total": 5}}},
        {},
        {"output_config.task_budget": 1},
    ),
    "the user": ({"metadata": {"user_id": "u"}}, {}, {"metadata": 1}),
    "the user as a hash": ({"metadata": {"user_id": "u"}}, {"user_field": "hash"}, {}),
    "a choice without tools": ({"tool_choice": {"type": "auto"}}, {}, {"tool_choice": 1}),
    "sampling": ({"top_k": 1, "top_p": 1}, {"sampling": "drop"}, {"top_k": 1, "top_p": 1}),
    "stop sequences": ({"stop_sequences": ["a", "b"]}, {"stop_max": 1}, {"stop_sequences": 1}),
    "all stop sequences": ({"stop_sequences": ["a", "b"]}, {"stop_max": 0}, {"stop_sequences": 2}),
}


@pytest.mark.parametrize(("asked", "profile", "counted"), OMISSIONS.values(), ids=OMISSIONS)
def test_what_is_left_out_or_changed_is_counted(asked: Any, profile: Any, counted: Any) -> None:
    _, translation = OPENAI_CHAT.translate(call_of(asking("hi", **asked)), target(**profile))

    assert translation.dropped == counted


def test_q42_adjacent_messages_become_one() -> None:
    document = asking("a", "b", assistant(text("x")), assistant(tool_use("t1")))
    messages = messages_sent(document)

    assert messages[0] == {"role": "user", "content": "a\n\nb"}
    assert messages[1]["content"] == "x"
    assert messages[1]["tool_calls"][0]["id"] == "t1"


def test_q43_an_answer_that_is_begun() -> None:
    document = asking("go", assistant(text("The answer is (")))

    assert messages_sent(document)[-1] == {"role": "assistant", "content": "The answer is ("}
    assert messages_sent(document, prefill="append_user")[-1]["role"] == "user"
    assert messages_sent(document, "mistral")[-1]["prefix"] is True


def test_q44_mistral_gets_ids_of_nine_characters() -> None:
    ids = ["toolu_01AbCdEfGhIjKlMnOpQrStUv", "toolu_01AbCdEfGhIjKlMnOpQrStUw", "abcdefgh9"]
    document = asking("go", assistant(*map(tool_use, ids)), user(*map(tool_result, ids)))
    messages = messages_sent(document, "mistral")

    given = [call["id"] for call in messages[1]["tool_calls"]]
    assert [message["tool_call_id"] for message in messages[2:]] == given
    assert all(re.fullmatch(r"[a-zA-Z0-9]{9}", tool_id) for tool_id in given)
    assert len(set(given)) == 3
    assert given[2] == "abcdefgh9"


def test_long_ids_are_hashed() -> None:
    document = asking("go", assistant(tool_use("x" * 41)), user(tool_result("x" * 41)))
    messages = messages_sent(document)

    assert re.fullmatch(r"call_[0-9a-f]{32}", messages[1]["tool_calls"][0]["id"])
    assert messages[2]["tool_call_id"] == messages[1]["tool_calls"][0]["id"]


def test_q46_gemini_gets_its_thought_signatures_back_or_a_sentinel() -> None:
    thinking = own_thinking("t", thought_signatures={"t2": "SIG"})
    calls = [tool_use("t1"), tool_use("t2"), tool_use("t3")]
    results = map(tool_result, ("t1", "t2", "t3"))
    document = asking("go", assistant(thinking, *calls), user(*results))

    first, second, third = messages_sent(document, "gemini")[1]["tool_calls"]
    sentinel = {"google": {"thought_signature": THOUGHT_SIGNATURE_SENTINEL}}
    assert first["extra_content"] == sentinel
    assert second["extra_content"] == {"google": {"thought_signature": "SIG"}}
    assert "extra_content" not in third
    assert "extra_content" not in str(messages_sent(document))


def test_q47_the_suffix_for_long_context_is_anthropics_own() -> None:
    assert sent(asking("hi"), GENERIC, "claude-sonnet-5[1m]")["model"] == "claude-sonnet-5"
    assert sent(asking("hi"), GENERIC, "m1")["model"] == "m1"


INVALID = {
    "Q48 negative max_tokens": asking("hi", max_tokens=-1),
    "Q48 fractional max_tokens": asking("hi", max_tokens=1.5),
    "Q48 boolean max_tokens": asking("hi", max_tokens=True),
    "Q48 no messages": {"model": "m", "max_tokens": 1},
    "Q48 messages are no list": {"model": "m", "max_tokens": 1, "messages": "hi"},
    "Q48 content is a number": asking({"role": "user", "content": 5}),
    "an unknown role": asking({"role": "tool", "content": "x"}),
    "a message that is none": asking({"role": "user", "content": "x"}) | {"messages": [5]},
    "a tool use without a name": asking("a", assistant({"type": "tool_use", "id": "x"})),
    "no messages at all": asking(),
    "nothing but empty messages": asking(user(), assistant()),
    "nothing but a system message": asking({"role": "system", "content": "x"}),
    "nothing but dropped thinking": asking(assistant(THINKING)),
}


@pytest.mark.parametrize("document", INVALID.values(), ids=INVALID)
def test_what_is_no_request_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused) as refused:
        sent(document)

    assert (refused.value.status, refused.value.final) == (400, False)


def test_q49_warming_a_cache_asks_nobody() -> None:
    with pytest.raises(AnswerLocally) as answered:
        sent(asking("hi " * 50, max_tokens=0))
    message = orjson.loads(answered.value.body)
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")
    assert message["usage"]["input_tokens"] > 0
    assert message["usage"]["output_tokens"] == 0

    with pytest.raises(AnswerLocally) as answered:
        sent(asking("hi", max_tokens=0, stream=True))
    assert answered.value.content_type.startswith(b"text/event-stream")
    events = [kind for kind in kinds(events_in(answered.value.body)) if kind != "ping"]
    assert events == ["message_start", "message_delta", "message_stop"]


def test_safeguards_are_refused_at_once_so_that_the_client_leaves_them_out() -> None:
    with pytest.raises(RequestRefused) as refused:
        sent(asking("hi", safeguards=[{"type": "dangerous_tool_use"}]))

    assert refused.value.message == "safeguards: Extra inputs are not permitted"
    assert refused.value.final


# -- the rest --------------------------------------------------------------------------------


def test_cache_control_is_kept_where_it_is_understood() -> None:
    mark = {"type": "ephemeral"}
    document = asking(
        user(text("x", cache_control=mark)),
        assistant(tool_use("a")),
        user(tool_result("a", cache_control=mark)),
        system=[text("A", cache_control=mark), text("B")],
    )
    first, second, _, third = sent(document, "openrouter", "anthropic/claude-x")["messages"]
    assert first["content"] == [text("A", cache_control=mark), text("B")]
    assert second["content"] == [text("x", cache_control=mark)]
    assert third["content"] == [text("ok", cache_control=mark)]
    assert "cache_control" not in str(sent(document, "openrouter", "openai/gpt-x"))


def test_the_operators_own_parameters_come_last() -> None:
    body = sent(
        asking("hi", temperature=0.5, stream=True),
        extra_body={"seed": 1, "stream_options": {"x": 1}, "logprobs": True},
        drop_params=["temperature", "logprobs"],
    )
    assert body["seed"] == 1
    assert body["stream_options"] == {"include_usage": True, "x": 1}
    assert not {"temperature", "logprobs"} & body.keys()


def test_half_an_emoji_and_huge_numbers_do_not_stop_a_request() -> None:
    body = rb"""{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"cut \ud83d"},
        {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"A",
        "input":{"s":"\ude00","n":123456789012345678901234567890}}]}]}"""
    request, _ = OPENAI_CHAT.translate(call_with(body, {"model": "m"}), target())

    messages = orjson.loads(request.body)["messages"]
    assert messages[0]["content"] == "cut \ufffd"
    arguments = messages[1]["tool_calls"][0]["function"]["arguments"]
    assert arguments == '{"s":"\ufffd","n":123456789012345678901234567890}'


def _call_with_schema_of_depth(levels: int) -> Call:
    deep = b'{"$id":"x","properties":{"p":' * levels + b"{}" + b"}}" * levels
    body = orjson.dumps(asking("hi", tools=[tool("Bash", input_schema={})]))
    return call_with(body.replace(b'"input_schema":{}', b'"input_schema":' + deep), {"model": "m"})


def test_a_schema_without_a_bottom_is_refused_not_a_crash() -> None:
    with pytest.raises(RequestRefused):
        OPENAI_CHAT.translate(_call_with_schema_of_depth(5000), target())


def test_a_schema_as_deep_as_can_be_read_is_converted_or_refused() -> None:
    """How deep is too deep differs between versions of Python."""
    try:
        request, _ = OPENAI_CHAT.translate(_call_with_schema_of_depth(450), target())
    except RequestRefused as refused:
        assert "nested too deeply" in refused.message
    else:
        assert request.body.count(b'"p":') == 450
        assert b"$id" not in request.body


def test_the_headers_are_the_providers_own() -> None:
    document = asking("hi", stream=True)
    request, _ = OPENAI_CHAT.translate(
        call_of(document), target(extra_headers={"HTTP-Referer": "https://me"})
    )
    assert sorted(request.headers) == [
        (b"accept", b"text/event-stream"),
        (b"accept-encoding", b"identity"),
        (b"authorization", b"Bearer sk-own-key-of-provider"),
        (b"content-type", b"application/json"),
        (b"http-referer", b"https://me"),
    ]
    assert (request.method, request.url) == ("POST", "https://llm.example/v1/chat/completions")


def test_the_way_back_does_not_hold_the_request() -> None:
    marker = "q" * 1000
    _, translation = OPENAI_CHAT.translate(call_of(asking(marker, system=marker)), target())
    seen: set[int] = set()
    pending: list[Any] = [translation]
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, type) or callable(thing):
            continue
        seen.add(id(thing))
        assert not (isinstance(thing, (str, bytes)) and len(thing) >= len(marker))
        pending += gc.get_referents(thing)


def test_a_request_is_not_changed_by_its_conversion() -> None:
    document = asking(
        user(text("x", cache_control={"type": "ephemeral"}), IMAGE, PDF),
        "y",
        *LOOP,
        system=[text("x-anthropic-billing-header: cch=1;"), text("B")],
        tools=[tool("a.b", input_schema=SCHEMA)],
    )
    before = copy.deepcopy(document)
    for base_url in ("generic", "gemini", "openrouter"):
        asked = target(base_url)
        convert(document, asked, profile_for(asked))
        assert document == before
