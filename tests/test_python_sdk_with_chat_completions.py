"""Anthropic's own Python SDK, answered by a Chat Completions provider."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest

from tests.openai_dialect import DONE, completion, d, fin, tc, tool, usage
from tests.proxy import WITH_DATABASE, Proxy, chat, running_proxy
from tests.upstreams import FakeProvider, Step, Then, either, message, refuse, stream

pytestmark = WITH_DATABASE

FIGURES = {"prompt_tokens": 100, "completion_tokens": 7}
ASK: dict[str, Any] = {
    "model": "claude-test",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "List the files"}],
}
TOOLS = [tool("Bash")]
CALL = {"id": "call_1", "type": "function", "function": {"name": "Bash", "arguments": '{"c":"ls"}'}}


def hello() -> Step:
    streamed = stream(d(content="Hel"), d(content="lo"), fin("stop"), usage(**FIGURES), DONE)
    return either(streamed, message(completion({"content": "Hello"}, usage=FIGURES)))


def calls_a_tool() -> Step:
    streamed = stream(
        d(content="I look"),
        tc(0, "call_1", "Bash", ""),
        tc(0, None, None, '{"c":'),
        tc(0, None, None, '"ls"}'),
        fin("tool_calls"),
        usage(**FIGURES),
        DONE,
    )
    reply = completion({"content": "I look", "tool_calls": [CALL]}, "tool_calls", usage=FIGURES)
    return either(streamed, message(reply))


def options(proxy: Proxy) -> dict[str, Any]:
    headers = {"x-ccf-api-key": proxy.token}
    return {
        "base_url": proxy.url,
        "api_key": "k",
        "default_headers": headers,
        "max_retries": 0,
    }


async def conversation(proxy: Proxy, streaming: bool) -> list[anthropic.types.Message]:
    """A tool call and its result, with the asynchronous client."""
    answers, turns = [], list(ASK["messages"])
    async with anthropic.AsyncAnthropic(**options(proxy)) as sdk:
        for _ in range(2):
            request = {**ASK, "messages": turns, "tools": TOOLS}
            if streaming:
                async with sdk.messages.stream(**request) as streamed:
                    answer: Any = await streamed.get_final_message()
            else:
                answer = await sdk.messages.create(**request)
            answers.append(answer)
            turns = [*turns, *follow_up(answer)]
    return answers


def plain_conversation(proxy: Proxy, streaming: bool) -> list[anthropic.types.Message]:
    """The same with the synchronous client."""
    answers, turns = [], list(ASK["messages"])
    with anthropic.Anthropic(**options(proxy)) as sdk:
        for _ in range(2):
            request = {**ASK, "messages": turns, "tools": TOOLS}
            if streaming:
                with sdk.messages.stream(**request) as streamed:
                    answer: Any = streamed.get_final_message()
            else:
                answer = sdk.messages.create(**request)
            answers.append(answer)
            turns = [*turns, *follow_up(answer)]
    return answers


def follow_up(answer: anthropic.types.Message) -> list[dict[str, Any]]:
    """The answer as history, and the results of its tools."""
    content = [block.model_dump(exclude_none=True) for block in answer.content]
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "README.md"}
        for block in content
        if block["type"] == "tool_use"
    ]
    return [{"role": "assistant", "content": content}, {"role": "user", "content": results}]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("synchronous", [True, False])
async def test_it_uses_tools_and_reads_usage(synchronous: bool, streaming: bool) -> None:
    async with FakeProvider(calls_a_tool(), hello()) as up, running_proxy(chat(up)) as proxy:
        if synchronous:
            first, second = await asyncio.to_thread(plain_conversation, proxy, streaming)
        else:
            first, second = await conversation(proxy, streaming)
        text, call = first.content
        assert (text.type, call.type) == ("text", "tool_use")
        assert (call.id, call.name, call.input) == ("call_1", "Bash", {"c": "ls"})  # type: ignore[union-attr]
        assert (first.stop_reason, second.stop_reason) == ("tool_use", "end_turn")
        assert [block.text for block in second.content] == ["Hello"]  # type: ignore[union-attr]
        for answer in (first, second):
            assert answer.model == "claude-test"
            assert (answer.usage.input_tokens, answer.usage.output_tokens) == (100, 7)
        sent = json.loads(up.requests[1].body)["messages"]
        assert sent[1]["tool_calls"] == [CALL]
        assert sent[2] == {"role": "tool", "tool_call_id": "call_1", "content": "README.md"}


async def test_it_counts_tokens() -> None:
    async with FakeProvider(hello()) as up, running_proxy(chat(up)) as proxy:
        async with anthropic.AsyncAnthropic(**options(proxy)) as sdk:
            request = {key: value for key, value in ASK.items() if key != "max_tokens"}
            assert (await sdk.messages.count_tokens(**request)).input_tokens > 0
        assert up.requests == []


async def test_a_stream_that_dies_is_an_error_and_never_a_short_answer() -> None:
    async with FakeProvider(stream(d(content="Hel"), Then.CUT)) as up:
        async with running_proxy(chat(up)) as proxy:
            async with anthropic.AsyncAnthropic(**options(proxy)) as sdk:
                with pytest.raises(Exception, match="incomplete chunked read"):
                    async with sdk.messages.stream(**ASK) as streamed:
                        await streamed.get_final_message()


async def test_it_raises_what_anthropics_errors_raise() -> None:
    async with FakeProvider(refuse(429, "slow down")) as up, running_proxy(chat(up)) as proxy:
        async with anthropic.AsyncAnthropic(**options(proxy)) as sdk:
            with pytest.raises(anthropic.RateLimitError, match="slow down"):
                await sdk.messages.create(**ASK)
