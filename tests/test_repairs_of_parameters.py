"""Fields, betas and limits that an upstream refuses."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.rectifiers import Draft
from tests.histories import (
    MARK,
    assistant,
    call,
    draft,
    image,
    mend,
    mended,
    request,
    result,
    target,
    text,
    tool,
    user,
)


@pytest.mark.parametrize(
    ("message", "before", "after", "learned"),
    [
        pytest.param(
            "context_management: Extra inputs are not permitted",
            {"context_management": {"edits": []}},
            {},
            "context_management",
            id="a top-level field",
        ),
        pytest.param(
            "output_config.effort: Extra inputs are not permitted",
            {"output_config": {"effort": "high", "format": "f"}},
            {"output_config": {"format": "f"}},
            "output_config.effort",
            id="K12 a field beside another",
        ),
        pytest.param(
            "output_config.effort: Extra inputs are not permitted",
            {"output_config": {"effort": "high"}},
            {},
            "output_config.effort",
            id="an object left empty goes",
        ),
        pytest.param(
            "tools.3.custom.input_examples: Extra inputs are not permitted",
            {
                "tools": [
                    tool("A", input_examples=[1]),
                    tool("B", input_examples=[2], type="custom"),
                ]
            },
            {"tools": [tool("A"), tool("B", type="custom")]},
            "tools.*.custom.input_examples",
            id="K12 a field of every tool",
        ),
        pytest.param(
            "system.1.cache_control.ephemeral.scope: Extra inputs are not permitted",
            {
                "system": [text("s", cache_control={**MARK, "scope": "global"})],
                "tools": [tool(cache_control={**MARK, "scope": "global"})],
            },
            {"system": [text("s", cache_control=MARK)], "tools": [tool(cache_control=MARK)]},
            "system.*.cache_control.ephemeral.scope",
            id="inside every cache mark",
        ),
        pytest.param(
            "thinking.display: Extra inputs are not permitted",
            {"thinking": {"type": "adaptive", "display": "omitted"}},
            {"thinking": {"type": "adaptive"}},
            "thinking.display",
            id="inside thinking",
        ),
        pytest.param(
            "thinking: Extra inputs are not permitted",
            {
                "thinking": {"type": "adaptive"},
                "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
            },
            {},
            "thinking",
            id="thinking as a whole",
        ),
    ],
)
def test_unknown_fields_are_deleted_wherever_they_are(
    message: str, before: dict[str, Any], after: dict[str, Any], learned: str
) -> None:
    mended_draft = mend(request(user(text()), **before), message)
    assert mended_draft.document == request(user(text()), **after)
    assert mended_draft.profile == {"strip_fields": [learned]}


def test_a_field_of_one_kind_of_block_stays_on_others() -> None:
    before = request(user(text("a", citations=[]), image() | {"citations": []}))
    after = mended(before, "messages.0.content.0.text.citations: Extra inputs are not permitted")
    assert after["messages"][0]["content"] == [text("a"), image() | {"citations": []}]


@pytest.mark.parametrize(
    "path",
    [
        "messages",
        "model",
        "max_tokens",
        "tools",
        "system",
        "messages.0",
        "messages.0.content",
        "messages.0.role",
        "messages.1.content.0.tool_use.input.path",
        "tools.0.custom.input_schema",
        "tools.0.custom.name",
        "stream",
        "messages.1.content.0.tool_use.input",
        "tools.0.custom.input_schema.properties.path.type",
        "effort",
    ],
)
def test_what_a_request_needs_is_never_deleted(path: str) -> None:
    before = request(
        user(text()),
        assistant(call("t", path="x")),
        user(result("t")),
        tools=[tool()],
        system="s",
        stream=True,
        output_config={"effort": "low"},
    )
    assert mend(before, f"{path}: Extra inputs are not permitted") is None


def test_several_paths_in_one_refusal_are_deleted_at_once() -> None:
    before = request(user(text()), speed="fast", container="c")
    after = mended(
        before, "speed: Extra inputs are not permitted; container: Extra inputs are not permitted"
    )
    assert "speed" not in after and "container" not in after


BETAS = "claude-code-20250219,oauth-2025-04-20,effort-2025-11-24,context-management-2025-06-27"


def betas_of(after: Draft) -> list[bytes]:
    return [value for name, value in after.headers if name == b"anthropic-beta"]


def test_k13_a_named_beta_goes_from_header_and_body() -> None:
    before = draft(
        request(
            user(text()), output_config={"effort": "high", "format": "f"}, context_management={}
        ),
        BETAS,
    )
    after = mend(before, "Unexpected value(s) `effort-2025-11-24` for the `anthropic-beta` header.")
    assert betas_of(after) == [
        b"claude-code-20250219,oauth-2025-04-20,context-management-2025-06-27"
    ]
    assert (
        after.document["output_config"] == {"format": "f"}
        and "context_management" in after.document
    )
    assert after.profile == {"strip_betas": ["effort-2025-11-24"]}
    assert after.headers[0] == before.headers[0]


def test_an_unnamed_beta_means_all_but_oauth() -> None:
    before = draft(
        request(user(text()), output_config={"effort": "high"}, context_management={"edits": []}),
        BETAS,
    )
    after = mend(before, "invalid beta flag")
    assert betas_of(after) == [b"oauth-2025-04-20"]
    assert after.document == request(user(text()))
    assert after.profile == {"strip_betas": ["*"]}


def test_the_header_goes_when_nothing_is_left_and_nothing_happens_without_it() -> None:
    after = mend(draft(request(user(text())), "effort-2025-11-24"), "invalid beta flag")
    assert betas_of(after) == []
    assert mend(request(user(text())), "invalid beta flag") is None


def test_oauth_is_never_taken_from_a_client() -> None:
    at = target(primary=True, repairs={"beta_header": True})
    before = draft(request(user(text())), BETAS)
    assert (
        mend(before, "Unexpected value(s) `oauth-2025-04-20` for the `anthropic-beta` header", at)
        is None
    )


@pytest.mark.parametrize(
    ("beta", "before", "after"),
    [
        (
            "advanced-tool-use-2025-11-20",
            request(
                assistant(call("t")),
                user(result("t", [{"type": "tool_reference", "tool_name": "mcp__x"}])),
                tools=[
                    tool("A", defer_loading=True),
                    {"type": "tool_search_tool_regex_20251119", "name": "s"},
                ],
            ),
            request(
                assistant(call("t")),
                user(result("t", [text("Tool loaded: mcp__x")])),
                tools=[tool("A")],
            ),
        ),
        (
            "structured-outputs-2025-11-13",
            request(user(text()), output_config={"format": {}}, tools=[tool(strict=True)]),
            request(user(text()), tools=[tool()]),
        ),
        (
            "advisor-tool-2026-03-01",
            request(user(text()), tools=[{"type": "advisor_20260301", "name": "advisor"}]),
            request(user(text())),
        ),
        (
            "per-turn-control-2026-07-01",
            request(
                user(text()), {"role": "system", "content": "x", "output_config": {"effort": "low"}}
            ),
            request(user(text()), {"role": "system", "content": "x"}),
        ),
        (
            "extended-cache-ttl-2025-04-11",
            request(user(text(cache_control={**MARK, "ttl": "1h"}))),
            request(user(text(cache_control=MARK))),
        ),
        (
            "dangerous-tool-use-2026-09-03",
            request(user(text()), safeguards=[1]),
            request(user(text())),
        ),
        ("interleaved-thinking-2025-05-14", request(user(text())), request(user(text()))),
    ],
)
def test_the_body_half_of_a_beta_goes_with_it(beta: str, before: Any, after: Any) -> None:
    mended_draft = mend(
        draft(before, f"x-1,{beta}"),
        f"Unexpected value(s) `{beta}` for the `anthropic-beta` header",
    )
    assert mended_draft.document == after
    assert betas_of(mended_draft) == [b"x-1"]


def test_betas_inside_the_body_go_too() -> None:
    before = request(
        user(text()), anthropic_beta=["effort-2025-11-24", "x-1"], output_config={"effort": "low"}
    )
    after = mended(
        before, "Unexpected value(s) `effort-2025-11-24` for the `anthropic-beta` header"
    )
    assert after == request(user(text()), anthropic_beta=["x-1"])


def test_k16_the_output_limit_is_the_models_and_the_budget_follows() -> None:
    message = (
        "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens for x"
    )
    before = request(user(text()), thinking={"type": "enabled", "budget_tokens": 100_000})
    before["max_tokens"] = 128_000
    after = mend(before, message)
    assert after.document["max_tokens"] == 64_000
    assert after.document["thinking"]["budget_tokens"] == 63_999
    assert after.profile == {"max_output_tokens": 64_000}
    assert mend({**before, "max_tokens": 100}, message) is None


def test_less_output_is_asked_for_where_the_context_leaves_less_room() -> None:
    message = "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000"
    assert mended(request(user(text())), message)["max_tokens"] == 200_000 - 190_000 - 64
    assert mend(request(user(text())), message.replace("190000", "199500")) is None


def test_the_user_id_becomes_a_hash_of_itself() -> None:
    message = "The unique ID of the user must be between 6 and 128 characters"
    one = mended(request(user(text()), metadata={"user_id": '{"a":1}', "x": 1}), message)[
        "metadata"
    ]
    two = mended(request(user(text()), metadata={"user_id": '{"a":2}'}), message)["metadata"]
    assert len(one["user_id"]) == 32 and int(one["user_id"], 16) and one["x"] == 1
    assert one["user_id"] != two["user_id"]
    assert mend(request(user(text()), metadata=one), message) is None
