"""Conversations in the words of Chat Completions providers: content, calls, roles."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.formats.openai_chat.reasoning_history import REASONING_UNKNOWN
from tests.openai_dialect import (
    IMAGE,
    IMAGE_PART,
    LOOP,
    PDF,
    THINKING,
    asking,
    assistant,
    messages_sent,
    own_thinking,
    roles,
    sent,
    text,
    tool_result,
    tool_use,
    user,
)


def system_of(document: dict[str, Any], **profile: Any) -> Any:
    first = messages_sent(document, **profile)[0]
    return first["content"] if first["role"] == "system" else None


def user_content(*blocks: Any, **profile: Any) -> Any:
    return messages_sent(asking(user(*blocks)), **profile)[-1]["content"]


def tool_content(*content: Any, **fields: Any) -> Any:
    """What a tool message says for a result with this content (none given: no `content` at all)."""
    result = tool_result("t1", content[0] if content else None, **fields)
    if not content:
        del result["content"]
    return messages_sent(asking("go", assistant(tool_use("t1")), user(result)))[2]["content"]


def test_q01_a_plain_request() -> None:
    assert sent(asking("hi", system="Be brief")) == {
        "model": "m1",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "hi"},
        ],
        "max_tokens": 100,
    }


SYSTEMS = {
    "Q02 blocks are joined, empty ones skipped": (
        [text("A", cache_control={"type": "ephemeral"}), text(""), text("B")],
        "A\n\nB",
    ),
    "Q03 an empty string": ("", None),
    "Q03 an empty list": ([], None),
    "Q03 nothing but empty blocks": ([text("")], None),
}


@pytest.mark.parametrize(("system", "expected"), SYSTEMS.values(), ids=SYSTEMS)
def test_the_system_prompt_is_one_string(system: Any, expected: Any) -> None:
    document = asking("hi", system=system)

    assert system_of(document) == expected
    assert b"cache_control" not in orjson.dumps(sent(document))


def test_q04_a_stream_asks_for_its_usage() -> None:
    assert sent(asking("hi", stream=True))["stream_options"] == {"include_usage": True}
    assert sent(asking("hi", stream=True))["stream"] is True
    assert "stream_options" not in sent(asking("hi", stream=True), stream_options=False)
    assert "stream" not in sent(asking("hi", stream=False))


USER_CONTENT = {
    "Q05 text and image": ([text("x"), IMAGE], [text("x"), IMAGE_PART]),
    "Q06 image by address": (
        [{"type": "image", "source": {"type": "url", "url": "https://e/x.png"}}],
        [{"type": "image_url", "image_url": {"url": "https://e/x.png"}}],
    ),
    "image without a media type": (
        [{"type": "image", "source": {"type": "base64", "data": "/9j/4AAQ"}}],
        [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4AAQ"}}],
    ),
    "image that is a data address already": (
        [{"type": "image", "source": {"type": "base64", "data": "data:image/gif;base64,R0"}}],
        [{"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0"}}],
    ),
    "image in Anthropic's file store": (
        [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}],
        "[image file file_1 is not available to this provider]",
    ),
    "Q09 document as text": (
        [
            {
                "type": "document",
                "title": "T",
                "context": "C",
                "source": {"type": "text", "data": "body"},
            }
        ],
        "T\nC\nbody",
    ),
    "document as content": (
        [
            {
                "type": "document",
                "title": "T",
                "source": {"type": "content", "content": [text("a"), IMAGE]},
            }
        ],
        [text("T"), text("a"), IMAGE_PART],
    ),
    "document by address": (
        [{"type": "document", "source": {"type": "url", "url": "https://e/a.pdf"}}],
        "[document: https://e/a.pdf]",
    ),
    "search result": (
        [{"type": "search_result", "title": "T", "source": "https://e", "content": [text("c")]}],
        "T\nhttps://e\nc",
    ),
    "unknown block": (
        [text("x"), {"type": "container_upload", "file_id": "f"}],
        "x\n\n[unsupported content block: container_upload]",
    ),
    "strings among the blocks": (["a", text("b")], "a\n\nb"),
    "blank text beside other content": ([text(" \n"), text("b")], "b"),
    "nothing but blank text": ([text(" ")], " "),
    "text keeps its order around an image": (
        [text("a"), IMAGE, text("b")],
        [text("a"), IMAGE_PART, text("b")],
    ),
}


@pytest.mark.parametrize(("blocks", "expected"), USER_CONTENT.values(), ids=USER_CONTENT)
def test_user_content(blocks: list[Any], expected: Any) -> None:
    assert user_content(*blocks) == expected


def test_q07_a_model_that_cannot_see_gets_a_note() -> None:
    note = "[image omitted: the current model cannot view images]"

    assert user_content(text("x"), IMAGE, images=False) == f"x\n\n{note}"
    document = asking("go", assistant(tool_use("t1")), user(tool_result("t1", [IMAGE])))
    assert messages_sent(document, images=False)[-1]["content"] == note


def test_q08_a_pdf_is_a_note_unless_files_are_accepted() -> None:
    note = user_content(PDF)
    assert note == (
        '[document "T" (application/pdf, 1 KB) omitted: not supported by this provider]'
    )
    assert user_content(PDF, documents="file_part") == [
        {
            "type": "file",
            "file": {"filename": "T", "file_data": "data:application/pdf;base64,JVBERi0x"},
        }
    ]


def test_q10_a_tool_call_and_its_result() -> None:
    arguments = {"p": "ä", "n": 1}
    document = asking(
        "go",
        assistant(text("I'll look"), tool_use("t1", "Read", arguments)),
        user(tool_result("t1")),
    )
    assert messages_sent(document)[1:] == [
        {
            "role": "assistant",
            "content": "I'll look",
            "tool_calls": [
                {
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "Read", "arguments": '{"p":"ä","n":1}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "ok"},
    ]


def test_q11_nothing_but_a_tool_call_has_null_content() -> None:
    document = asking("go", assistant(tool_use("t1")), user(tool_result("t1")))

    assert messages_sent(document)[1]["content"] is None
    assert messages_sent(document, assistant_null_content=False)[1]["content"] == ""
    filled: dict[str, Any] = {"assistant_null_content": False, "empty_content": "(no content)"}
    assert messages_sent(document, **filled)[1]["content"] == "(no content)"


@pytest.mark.parametrize("block", [{"input": {}}, {}, {"input": None}], ids=str)
def test_q12_no_input_is_an_empty_object(block: dict[str, Any]) -> None:
    call = {"type": "tool_use", "id": "t1", "name": "Read", **block}
    document = asking("go", assistant(call), user(tool_result("t1")))

    assert messages_sent(document)[1]["tool_calls"][0]["function"]["arguments"] == "{}"


PAIRINGS = {
    "Q13 parallel calls, results in the other order": (
        [
            assistant(tool_use("a"), tool_use("b")),
            user(tool_result("b"), tool_result("a")),
        ],
        ["assistant a,b", "tool a", "tool b"],
    ),
    "Q14 text before the results moves behind them": (
        [assistant(tool_use("a")), user(text("and"), tool_result("a"))],
        ["assistant a", "tool a", "user"],
    ),
    "Q45 a call without a result": (
        [assistant(tool_use("a")), "never mind"],
        ["assistant a", "tool a", "user"],
    ),
    "Q45 a result without a call": ([user(tool_result("zz", "lost"))], ["user"]),
    "a result that comes later is moved up": (
        [
            assistant(tool_use("a"), tool_use("b")),
            user(tool_result("a")),
            assistant(text("hm")),
            user(tool_result("b")),
        ],
        ["assistant a,b", "tool a", "tool b", "assistant"],
    ),
    "a result before its call is none": (
        [user(tool_result("a")), assistant(tool_use("a"))],
        ["user", "assistant a", "tool a"],
    ),
    "a second result for one call becomes text": (
        [assistant(tool_use("a")), user(tool_result("a"), tool_result("a", "again"))],
        ["assistant a", "tool a", "user"],
    ),
    "one id for two calls of a turn": (
        [assistant(tool_use("a"), tool_use("a")), user(tool_result("a"), tool_result("a"))],
        ["assistant a,a_2", "tool a", "tool a_2"],
    ),
    "one id in two turns": (
        [
            assistant(tool_use("a")),
            user(tool_result("a")),
            assistant(tool_use("a")),
            user(tool_result("a")),
        ],
        ["assistant a", "tool a", "assistant a_2", "tool a_2"],
    ),
    "a new id that is taken already": (
        [
            assistant(tool_use("a"), tool_use("a"), tool_use("a_2")),
            user(tool_result("a"), tool_result("a"), tool_result("a_2")),
        ],
        ["assistant a,a_3,a_2", "tool a", "tool a_3", "tool a_2"],
    ),
    "calls without any id": (
        [
            assistant({"type": "tool_use", "name": "A"}, {"type": "tool_use", "name": "B"}),
            user({"type": "tool_result", "content": "1"}, {"type": "tool_result"}),
        ],
        [
            "assistant call_without_id,call_without_id_2",
            "tool call_without_id",
            "tool call_without_id_2",
        ],
    ),
    "Q42 adjacent messages of one role": (
        ["b", assistant(text("x")), assistant(tool_use("a")), user(tool_result("a"))],
        ["user", "assistant a", "tool a"],
    ),
    "adjacent turns around an empty message": (
        [assistant(text("x")), user(), assistant(tool_use("a")), user(tool_result("a"))],
        ["assistant a", "tool a"],
    ),
    "adjacent turns around nothing but thinking": (
        [assistant({"type": "thinking", "thinking": "t", "signature": "Eq"}), "b"],
        ["user"],
    ),
}


@pytest.mark.parametrize(("history", "expected"), PAIRINGS.values(), ids=PAIRINGS)
def test_every_call_is_followed_by_its_result(history: list[Any], expected: list[str]) -> None:
    messages = messages_sent(asking("go", *history))

    assert roles(messages) in (["user", *expected], expected)


def test_calls_that_share_an_id_keep_their_own_results() -> None:
    messages = messages_sent(
        asking(
            "go",
            assistant(tool_use("a"), tool_use("a")),
            user(tool_result("a", "first"), tool_result("a", "second")),
            assistant(tool_use("a")),
            user(tool_result("a", "third")),
        )
    )
    results = {m["tool_call_id"]: m["content"] for m in messages if m["role"] == "tool"}
    assert results == {"a": "first", "a_2": "second", "a_3": "third"}


def test_q45_what_has_no_counterpart_is_told() -> None:
    missing = messages_sent(asking("go", assistant(tool_use("t1")), "never mind"))
    assert missing[2]["content"] == "[Tool result missing: the call was interrupted]"
    assert missing[3] == {"role": "user", "content": "never mind"}

    stray = messages_sent(asking(user(tool_result("zz", [text("lost"), IMAGE]))))
    assert stray[0]["content"] == [
        text("[Result of an earlier tool call zz]\nlost"),
        IMAGE_PART,
    ]


TOOL_CONTENT = {
    "Q15 texts": (([text("a"), text("b")],), {}, "a\nb"),
    "Q16 missing": ((), {}, ""),
    "Q16 null": ((None,), {}, ""),
    "Q16 empty list": (([],), {}, ""),
    "Q16 empty string": (("",), {}, ""),
    "Q18 an error": (("boom",), {"is_error": True}, "Error: boom"),
    "Q18 an error that says so": (("ERROR: y",), {"is_error": True}, "ERROR: y"),
    "Q18 an error of Claude Code's": (
        ("<tool_use_error>x</tool_use_error>",),
        {"is_error": True},
        "<tool_use_error>x</tool_use_error>",
    ),
    "Q18 an empty error": (("",), {"is_error": True}, "Error"),
    "Q18 an error without content": ((), {"is_error": True}, "Error"),
    "no error": (("boom",), {"is_error": False}, "boom"),
    "Q19 a reference": (
        ([{"type": "tool_reference", "tool_name": "mcp__a"}],),
        {},
        "Tool loaded: mcp__a",
    ),
    "Q19 an unknown block": (
        ([{"type": "odd", "x": 1, "cache_control": {"type": "ephemeral"}}],),
        {},
        '{"type":"odd","x":1}',
    ),
    "a search result": (
        ([{"type": "search_result", "title": "T", "source": "s", "content": [text("c")]}],),
        {},
        "T\ns\nc",
    ),
    "a document as text": (
        ([{"type": "document", "source": {"type": "text", "data": "body"}}],),
        {},
        "body",
    ),
}


@pytest.mark.parametrize(("content", "fields", "expected"), TOOL_CONTENT.values(), ids=TOOL_CONTENT)
def test_the_content_of_a_tool_message(content: Any, fields: Any, expected: str) -> None:
    assert tool_content(*content, **fields) == expected


def test_q17_images_of_results_are_shown_in_one_user_message_behind_all_results() -> None:
    document = asking(
        "go",
        assistant(tool_use("a"), tool_use("b")),
        user(tool_result("a", [text("see"), IMAGE]), tool_result("b", [IMAGE]), text("look")),
    )
    assert messages_sent(document)[2:] == [
        {
            "role": "tool",
            "tool_call_id": "a",
            "content": "see\n[image: shown in the next user message]",
        },
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": "[image: shown in the next user message]",
        },
        {
            "role": "user",
            "content": [
                text("[image returned by tool call a]"),
                IMAGE_PART,
                text("[image returned by tool call b]"),
                IMAGE_PART,
                text("look"),
            ],
        },
    ]
    inline = messages_sent(document, tool_images="inline")
    assert inline[2]["content"] == [text("see"), IMAGE_PART]
    assert inline[4] == {"role": "user", "content": "look"}


def test_a_pdf_in_a_result_goes_the_same_way() -> None:
    document = asking("go", assistant(tool_use("a")), user(tool_result("a", [PDF])))

    shown = messages_sent(document, documents="file_part")[-1]["content"]
    assert [part["type"] for part in shown] == ["text", "file"]
    assert "omitted" in messages_sent(document)[-1]["content"]


def test_q20_other_providers_thinking_stays_out() -> None:
    document = asking("go", assistant(THINKING, text("x"), tool_use("t1")), user(tool_result("t1")))

    for profile in ({}, {"reasoning_history": "reasoning_content"}):
        body = sent(document, **profile)
        assert b"secret thought" not in orjson.dumps(body)
    assert not {"reasoning", "reasoning_content"} & sent(document)["messages"][1].keys()


def test_q21_our_own_thinking_goes_back_in_the_field_of_the_provider() -> None:
    document = asking("go", assistant(own_thinking("r1"), own_thinking("r2"), text("x")), "b")

    assert "r1" not in str(messages_sent(document))
    for field in ("reasoning_content", "reasoning"):
        assert messages_sent(document, reasoning_history=field)[1] == {
            "role": "assistant",
            "content": "x",
            field: "r1\n\nr2",
        }
    omitted = asking("go", assistant(own_thinking("", text="kept"), text("x")), "b")
    message = messages_sent(omitted, reasoning_history="reasoning_content")[1]
    assert message["reasoning_content"] == "kept"
    details = [{"type": "reasoning.text", "text": "r"}]
    detailed = asking("go", assistant(own_thinking("r", details=details), text("x")), "b")
    message = messages_sent(detailed, reasoning_history="reasoning_details")[1]
    assert message["reasoning_details"] == details


def test_any_thinking_goes_back_where_the_profile_accepts_it() -> None:
    document = asking("go", assistant(THINKING, text("x")), "b")
    profile = {"reasoning_history": "reasoning_content", "reasoning_accept": "any"}

    assert messages_sent(document, **profile)[1]["reasoning_content"] == "secret thought"


def test_reasoning_that_is_not_known_is_filled_in_unless_thinking_is_off() -> None:
    def filled(thinking: dict[str, str], **profile: Any) -> Any:
        document = asking("go", *LOOP, thinking=thinking)
        profile = {"reasoning_history": "reasoning_content", **profile}
        return messages_sent(document, **profile)[1].get("reasoning_content")

    assert filled({"type": "adaptive"}) == REASONING_UNKNOWN
    assert filled({"type": "disabled"}) is None
    assert filled({"type": "disabled"}, reasoning_filler=True) == REASONING_UNKNOWN
    assert filled({"type": "adaptive"}, reasoning_filler=False) is None


def test_q22_what_anthropics_servers_did_is_told_as_text() -> None:
    document = asking(
        "go",
        assistant(
            {
                "type": "server_tool_use",
                "id": "srvtoolu_1",
                "name": "web_search",
                "input": {"query": "weather"},
            },
            {
                "type": "web_search_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": [
                    {
                        "type": "web_search_result",
                        "title": "Sunny",
                        "url": "https://w.example",
                        "encrypted_content": "XYZ",
                    }
                ],
            },
            text("It is sunny."),
        ),
        "thanks",
    )
    (message,) = [m for m in messages_sent(document) if m["role"] == "assistant"]

    assert message == {
        "role": "assistant",
        "content": "[web_search: weather]\n\n[web_search result]\nSunny\nhttps://w.example"
        "\n\nIt is sunny.",
    }


SERVER_RESULTS = {
    "an error": (
        {"type": "web_fetch_tool_result_error", "error_code": "url_not_accessible"},
        "url_not_accessible",
    ),
    "a fetched page": (
        {
            "type": "web_fetch_result",
            "url": "https://e",
            "content": {"type": "document", "source": {"type": "text", "data": "page text"}},
        },
        "https://e\npage text",
    ),
    "output of code": (
        {"type": "bash_code_execution_result", "stdout": "out", "stderr": "err"},
        "out\nerr",
    ),
    "advice": ({"type": "advisor_result", "text": "be careful"}, "be careful"),
    "a text": ("plain", "plain"),
}


@pytest.mark.parametrize(("content", "expected"), SERVER_RESULTS.values(), ids=SERVER_RESULTS)
def test_results_of_server_tools_are_readable(content: Any, expected: str) -> None:
    block = {"type": "mcp_tool_result", "tool_use_id": "s", "content": content}

    told = messages_sent(asking("go", assistant(block), "b"))[1]["content"]
    assert told == f"[mcp result]\n{expected}"


def test_binary_and_encrypted_results_are_not_told() -> None:
    content = {
        "type": "web_fetch_result",
        "url": "https://e",
        "content": {"type": "document", "source": {"type": "base64", "data": "JVBERi"}},
        "encrypted_content": "XYZ",
    }
    block = {"type": "web_fetch_tool_result", "tool_use_id": "s", "content": content}
    told = messages_sent(asking("go", assistant(block), "b"))[1]["content"]
    assert "https://e" in told
    assert "JVBERi" not in told
    assert "XYZ" not in told


def test_a_compaction_summary_is_text_and_unknown_blocks_are_left_out() -> None:
    blocks = [
        {"type": "compaction", "content": "what happened"},
        {"type": "redacted_thinking", "data": "zzz"},
        {"type": "fallback"},
    ]
    assert messages_sent(asking("go", assistant(*blocks), "b"))[1] == {
        "role": "assistant",
        "content": "what happened",
    }


def test_texts_of_an_assistant_are_one_sentence() -> None:
    document = asking("go", assistant(text("It is "), text("sunny.", citations=[])), "b")

    assert messages_sent(document)[1]["content"] == "It is sunny."


# -- system messages among the messages ------------------------------------------------------


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


REMINDER = "<system-reminder>\nS\n</system-reminder>"
LOOPED = [assistant(tool_use("a")), user(tool_result("a"))]
INLINE = {
    "leading": (
        [system("S"), "x"],
        [("system", "S"), ("user", "x")],
        [("system", "S"), ("user", "x")],
    ),
    "after a user": (
        ["x", system([text("S")])],
        [("user", f"x\n\n{REMINDER}")],
        [("user", "x"), ("system", "S")],
    ),
    "before a user": (
        ["x", assistant(text("y")), system("S"), "z"],
        [("user", "x"), ("assistant", "y"), ("user", f"{REMINDER}\n\nz")],
        [("user", "x"), ("assistant", "y"), ("system", "S"), ("user", "z")],
    ),
    "after a result": (
        ["x", *LOOPED, system("S")],
        [("user", "x"), ("assistant", None), ("tool", "ok"), ("user", REMINDER)],
        [("user", "x"), ("assistant", None), ("tool", "ok"), ("system", "S")],
    ),
    "between a call and its result": (
        ["x", LOOPED[0], system("S"), LOOPED[1]],
        [("user", "x"), ("assistant", None), ("tool", "ok"), ("user", REMINDER)],
        [("user", "x"), ("assistant", None), ("tool", "ok"), ("system", "S")],
    ),
    "nothing but a billing header": (
        ["x", system("x-anthropic-billing-header: cch=1;")],
        [("user", "x")],
        [("user", "x")],
    ),
}


@pytest.mark.parametrize(("messages", "folded", "preserved"), INLINE.values(), ids=INLINE)
def test_system_messages_among_the_messages(messages: Any, folded: Any, preserved: Any) -> None:
    def short(**profile: Any) -> list[tuple[str, Any]]:
        sent_messages = messages_sent(asking(*messages), **profile)
        return [(message["role"], message["content"]) for message in sent_messages]

    assert short() == folded
    assert short(inline_system="preserve") == preserved


def test_k22_strict_templates_get_alternating_roles() -> None:
    document = asking(assistant(text("hello")), "x", *LOOPED, system("S"), system="top")
    messages = messages_sent(document, message_alternation=True, inline_system="preserve")

    assert roles(messages) == [
        *("system", "user", "assistant", "user", "assistant a", "tool a", "assistant", "user")
    ]
