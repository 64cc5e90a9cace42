"""Tool calls, results, ids and choices that an upstream refuses."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.rectifiers.tool_pairing import INTERRUPTED
from tests.histories import (
    MARK,
    assert_distinct_legal_ids,
    assert_paired,
    assistant,
    call,
    image,
    mend,
    mended,
    request,
    result,
    text,
    tool,
    user,
)

ORPHAN_CALL = (
    "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1"
)
ORPHAN_RESULT = "messages.2.content.0: unexpected `tool_use_id` found in `tool_result` blocks: t9"


def interrupted(id: str) -> dict[str, Any]:
    return result(id, INTERRUPTED, is_error=True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            [user(text()), assistant(call("t1"))],
            [user(text()), assistant(call("t1")), user(interrupted("t1"))],
            id="a call at the end",
        ),
        pytest.param(
            [user(text()), assistant(call("t1"), call("t2")), user(text("x"), result("t2"))],
            [
                user(text()),
                assistant(call("t1"), call("t2")),
                user(result("t2"), interrupted("t1"), text("x")),
            ],
            id="one of two, behind text",
        ),
        pytest.param(
            [user(text()), assistant(call("t1")), {"role": "user", "content": "never mind"}],
            [user(text()), assistant(call("t1")), user(interrupted("t1"), text("never mind"))],
            id="a string in place of results",
        ),
        pytest.param(
            [user(text()), assistant(call("t1")), assistant(text("go on")), user(text("x"))],
            [
                user(text()),
                assistant(call("t1")),
                assistant(text("go on")),
                user(interrupted("t1"), text("x")),
            ],
            id="two assistant messages are one turn",
        ),
        pytest.param(
            [
                assistant(call("t1")),
                user(text("x")),
                assistant(text("y")),
                user(result("t1"), text("z")),
            ],
            [
                assistant(call("t1")),
                user(result("t1"), text("x")),
                assistant(text("y")),
                user(text("z")),
            ],
            id="a late result moves up",
        ),
        pytest.param(
            [assistant(call("t1")), {"role": "system", "content": "s"}, user(result("t1"))],
            [assistant(call("t1")), user(result("t1")), {"role": "system", "content": "s"}],
            id="a system message moves behind the results",
        ),
        pytest.param(
            [assistant(call("t1"), call("t2")), user(result("t1")), user(text("x"), result("t2"))],
            [assistant(call("t1"), call("t2")), user(result("t1"), result("t2")), user(text("x"))],
            id="results in two messages",
        ),
        pytest.param(
            [assistant(call("t1")), user(text("a")), assistant(call("t2")), user(text("b"))],
            [
                assistant(call("t1")),
                user(interrupted("t1"), text("a")),
                assistant(call("t2")),
                user(interrupted("t2"), text("b")),
            ],
            id="the whole history, not only what was named",
        ),
    ],
)
def test_calls_without_results_are_answered(before: list[Any], after: list[Any]) -> None:
    mended_messages = mended(request(*before), ORPHAN_CALL)["messages"]
    assert mended_messages == after
    assert_paired(request(*mended_messages))


def test_a_paired_history_is_left_alone() -> None:
    before = request(
        user(text()),
        assistant(call("t1"), call("t2")),
        user(result("t2"), result("t1"), text("x")),
        assistant(text()),
    )
    assert mend(before, ORPHAN_CALL) is None and mend(before, ORPHAN_RESULT) is None


def test_k08_a_result_without_a_call_becomes_text() -> None:
    picture = image()
    before = request(
        user(text()),
        assistant(text("a")),
        user(result("t9", [text("found"), picture], cache_control=MARK), text("b")),
    )
    after = mended(before, ORPHAN_RESULT)
    assert after["messages"][2] == user(
        text("[Result of an earlier tool call t9]\nfound"),
        {**picture, "cache_control": MARK},
        text("b"),
    )


def test_a_second_result_of_one_call_becomes_text_and_an_empty_one_goes() -> None:
    before = request(
        assistant(call("t1")), user(result("t1", "one"), result("t1", "two"), result("t7", ""))
    )
    after = mended(before, ORPHAN_RESULT)
    assert after["messages"][1] == user(
        result("t1", "one"), text("[Result of an earlier tool call t1]\ntwo")
    )


def test_k08_a_server_tools_result_without_a_call_is_dropped() -> None:
    asked = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    advice = {"type": "advisor_tool_result", "tool_use_id": "srvtoolu_2", "content": "x"}
    before = request(
        user(text()), assistant(asked, found, advice, text("a")), user(text()), assistant(advice)
    )
    after = mended(
        before,
        "messages.1.content.2: unexpected `tool_use_id` found in `advisor_tool_result` blocks: "
        "srvtoolu_2. Each `advisor_tool_result` block must have a corresponding "
        "`server_tool_use` block before it.",
    )
    assert after["messages"] == [user(text()), assistant(asked, found, text("a")), user(text())]


def test_a_server_tools_call_without_a_result_is_dropped() -> None:
    asked = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    before = request(user(text()), assistant(asked, text("a")), user(text()))
    message = (
        "`web_search` tool use with id `srvtoolu_1` was found without a corresponding "
        "`web_search_tool_result` block"
    )
    assert mended(before, message)["messages"][1] == assistant(text("a"))


DUPLICATE = "messages.3.content.0: `tool_use` ids must be unique"


def test_k09_an_exact_copy_in_one_turn_goes_with_its_result() -> None:
    before = request(
        user(text()),
        assistant(call("t1", p=1), call("t1", p=1)),
        user(result("t1", "a"), result("t1", "b")),
    )
    after = mended(before, DUPLICATE)
    assert after["messages"][1:] == [assistant(call("t1", p=1)), user(result("t1", "a"))]


def test_k09_different_calls_are_renamed_with_their_results() -> None:
    before = request(
        user(text()),
        assistant(call("t1", p=1), call("t1", p=2)),
        user(result("t1", "a"), result("t1", "b")),
        assistant(call("t1", p=1)),
        user(result("t1", "c")),
    )
    after = mended(before, DUPLICATE)
    assert after["messages"][1:] == [
        assistant(call("t1", p=1), call("t1_2", p=2)),
        user(result("t1", "a"), result("t1_2", "b")),
        assistant(call("t1_3", p=1)),
        user(result("t1_3", "c")),
    ]
    assert_distinct_legal_ids(after)


def test_the_first_of_two_tools_of_one_name_stays() -> None:
    before = request(
        user(text()), tools=[tool("A", description="1"), tool("B"), tool("A", description="2")]
    )
    after = mended(before, "tools: Tool names must be unique.")
    assert [offered["name"] for offered in after["tools"]] == ["A", "B"]
    assert after["tools"][0]["description"] == "1"


def test_ids_lose_illegal_characters_and_stay_different() -> None:
    before = request(
        user(text()),
        assistant(call("a:1"), call("a_1"), call("a/1")),
        user(result("a/1"), result("a:1"), result("a_1")),
    )
    after = mended(
        before, "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
    )
    assert after["messages"][1]["content"][1] == call("a_1"), "a legal id keeps its name"
    assert_distinct_legal_ids(after)
    assert_paired(after)


def test_a_tool_choice_that_nothing_satisfies_goes() -> None:
    message = "tool_choice may only be specified while providing tools."
    before = request(user(text()), tool_choice={"type": "auto"})
    assert "tool_choice" not in mended(before, message)
    assert (
        mend(request(user(text()), tools=[tool()], tool_choice={"type": "auto"}), message) is None
    )
