"""Empty text, cache marks, prefills, inline system messages and images that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.histories import (
    MARK,
    assistant,
    call,
    image,
    marked,
    mend,
    mended,
    png,
    request,
    result,
    text,
    thinking,
    tool,
    user,
)

EMPTY = "messages: text content blocks must be non-empty"


def test_k10_empty_text_goes_everywhere_and_its_cache_mark_moves() -> None:
    before = request(
        user(text("a"), text("", cache_control=MARK)),
        assistant(text(" \n"), call("t1")),
        user(result("t1", [text(""), image()]), text("", cache_control=MARK)),
        assistant(text("")),
        user(text("", cache_control=MARK), text("b")),
        system=[text("s"), text("", cache_control=MARK)],
    )
    after = mended(before, EMPTY)
    assert after["messages"] == [
        user(text("a", cache_control=MARK)),
        assistant(call("t1")),
        user(result("t1", [image()], cache_control=MARK)),
        user(text("b", cache_control=MARK)),
    ]
    assert after["system"] == [text("s", cache_control=MARK)]


@pytest.mark.parametrize("content", ["", "  ", [], [text("")], None])
def test_k10_an_empty_message_of_the_user_says_so_and_the_assistants_goes(content: Any) -> None:
    before = request(
        user(text("a")),
        {"role": "assistant", "content": content},
        {"role": "user", "content": content},
    )
    after = mended(before, "messages.2: user messages must have non-empty content")
    assert after["messages"] == [user(text("a")), user(text("(no content)"))]


def test_an_emptied_tool_result_stays_and_a_failed_one_says_so() -> None:
    before = request(
        assistant(call("a"), call("b"), call("c")),
        user(result("a", [text("")]), result("b", "", is_error=True), result("c", "")),
    )
    after = mended(before, EMPTY)
    assert after["messages"][1]["content"] == [
        {"type": "tool_result", "tool_use_id": "a"},
        result("b", [text("(no content)")], is_error=True),
        result("c", ""),
    ]


def test_a_mark_never_lands_on_thinking() -> None:
    before = request(
        user(text()),
        assistant(thinking(), text("", cache_control=MARK), call("t")),
        user(result("t")),
    )
    assert mended(before, EMPTY)["messages"][1] == assistant(thinking(), call("t"))


TOO_MANY_MARKS = "A maximum of 4 blocks with cache_control may be provided. Found 7."


def test_k11_the_last_marks_of_tools_and_system_and_the_latest_of_messages_stay() -> None:
    m = {"cache_control": MARK}
    before = request(
        user(text("1", **m)),
        assistant(call("t")),
        user(result("t", [text("2", **m)], **m)),
        user(text("3", **m)),
        tools=[tool("A", **m), tool("B", **m), tool("C")],
        system=[text("s1", **m), text("s2", **m)],
    )
    after = mended(before, TOO_MANY_MARKS)
    kept = [holder.get("name") or holder.get("text") or holder["type"] for holder in marked(after)]
    assert kept == ["B", "s2", "tool_result", "3"]


def test_k11_a_mark_on_the_whole_request_counts() -> None:
    m = {"cache_control": MARK}
    before = request(user(*(text(str(n), **m) for n in range(4))), cache_control=MARK)
    after = mended(before, TOO_MANY_MARKS)
    assert [holder["text"] for holder in marked(after)] == ["1", "2", "3"] and after[
        "cache_control"
    ]


PREFILL = (
    "This model does not support assistant message prefill. The conversation must end with a user "
    "message."
)


def test_k16_a_prefill_is_followed_by_the_user_or_dropped_if_blank() -> None:
    before = request(user(text()), assistant(text("The answer is (")))
    assert mended(before, PREFILL)["messages"] == [
        *before["messages"],
        {"role": "user", "content": "Continue."},
    ]
    blank = request(user(text()), {"role": "assistant", "content": " "})
    assert mended(blank, PREFILL)["messages"] == [user(text())]
    assert mend(request(user(text())), PREFILL) is None


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


REMINDER = "<system-reminder>\n{}\n</system-reminder>"


def test_system_messages_are_folded_where_they_stand() -> None:
    before = request(
        system("first"),
        user(text("a")),
        system([text("one"), text("two", cache_control=MARK)]),
        assistant(call("t")),
        system("late"),
        user(result("t"), text("b")),
        assistant(text("c")),
        system("end"),
        system([{"type": "tool_addition", "tool_name": "x"}]),
        system="prompt",
    )
    after = mend(before, "messages.2.role: Input should be 'user' or 'assistant'")
    assert after.document["system"] == "prompt\n\nfirst"
    assert after.document["messages"] == [
        user(text("a"), text(REMINDER.format("one\n\ntwo"), cache_control=MARK)),
        assistant(call("t")),
        user(result("t"), text(REMINDER.format("late")), text("b")),
        assistant(text("c")),
        user(text(REMINDER.format("end"))),
    ]
    assert after.profile == {"inline_system": "fold_user"}


def test_a_leading_system_message_joins_a_list_or_makes_a_prompt() -> None:
    message = "messages.0.role: Input should be 'user' or 'assistant'"
    assert mended(request(system("x"), user(text()), system=[text("p")]), message)["system"] == [
        text("p"),
        text("x"),
    ]
    assert mended(request(system("x"), user(text())), message)["system"] == "x"
    assert mend(request(user(text())), message) is None


BLIND = "[image omitted: the current model cannot view images]"
BIG = "[image omitted: too large for this provider]"


def test_k21_images_are_replaced_everywhere_and_it_is_learned() -> None:
    before = request(
        user(image(), text("a")), assistant(call("t")), user(result("t", [image(), text("b")]))
    )
    after = mend(before, "Model only support text input")
    assert after.document["messages"] == [
        user(text(BLIND), text("a")),
        assistant(call("t")),
        user(result("t", [text(BLIND), text("b")])),
    ]
    assert after.profile == {"images": False}
    assert mend(request(user(text())), "Model only support text input") is None


def test_only_images_over_the_limit_are_replaced() -> None:
    small, wide = image(png(1999, 10)), image(png(10, 2001))
    before = request(user(small, wide, text("a")), user({**wide, "cache_control": MARK}))
    after = mended(
        before,
        "messages.0.content.1.image.source.base64.data: At least one of the image dimensions "
        "exceed max allowed size for many-image requests: 2000 pixels",
    )
    assert after["messages"] == [
        user(small, text(BIG), text("a")),
        user(text(BIG, cache_control=MARK)),
    ]


def test_only_images_that_weigh_too_much_are_replaced() -> None:
    heavy = image(png(10, 10, padding=5 * 1024 * 1024))
    before = request(user(image(), heavy))
    after = mended(before, "image exceeds 5 MB maximum: 6990538 bytes > 5242880 bytes")
    assert after["messages"] == [user(image(), text(BIG))]


def test_the_named_image_is_replaced_if_its_size_cannot_be_told() -> None:
    odd = [image(b"????", "image/webp") for _ in range(3)]
    before = request(
        user(*odd[:2], text("a")), assistant(call("t")), user(result("t", [text("b"), odd[2]]))
    )
    where = "messages.2.content.0.tool_result.content.1.image.source.base64.data"
    after = mended(
        before,
        f"{where}: At least one of the image dimensions exceed max allowed size: 8000 pixels",
    )
    assert after["messages"][0] == before["messages"][0]
    assert after["messages"][2] == user(result("t", [text("b"), text(BIG)]))


def test_the_older_half_goes_if_nothing_is_named_or_the_request_is_too_large() -> None:
    before = request(*(user(image(b"x" * 300), text(str(n))) for n in range(4)))
    for message, status in (
        ("image dimensions exceed max allowed size: 8000 pixels", 400),
        ("Request too large", 413),
    ):
        after = mend(before, message, status=status).document
        assert [m["content"][0]["type"] for m in after["messages"]] == [
            "text",
            "text",
            "image",
            "image",
        ]
    assert mend(request(user(text())), "Request too large", status=413) is None
