"""The repairs of one attempt: how many, which are allowed, what is recorded and remembered."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from providers.routing import Target, WireFormat
from proxy.call import MESSAGES, Call
from proxy.rectifiers import REPAIRS, Draft, RepairPlan, Rule, plan
from proxy.rectifiers.base import ANTHROPIC, on_document, wording
from proxy.rectifiers.document import put
from proxy.rectifiers.drafting import draft_of, redrafted
from proxy.rectifiers.known_facts import with_known_facts
from tests.histories import (
    assistant,
    call,
    draft,
    image,
    png,
    refusal,
    request,
    result,
    target,
    text,
    thinking,
    tool,
    user,
)

SIGNATURE = refusal("messages.1.content.0: Invalid `signature` in `thinking` block")
SIGNED = request(user(text()), assistant(thinking("a secret thought"), text("a")), user(text()))

ON_AT_THE_PRIMARY = {
    "thinking_start",
    "clear_thinking_edit",
    "thinking_budget",
    "sampling",
    "thinking_tool_choice",
    "orphan_tool_use",
    "orphan_tool_result",
    "duplicate_tool_ids",
    "tool_id_characters",
    "tool_choice_without_tools",
    "empty_text",
    "cache_marks",
    "max_tokens_limit",
}


def test_k01_the_same_refusal_twice_is_not_mended_twice() -> None:
    repairs = plan()
    repair, after = repairs.next(SIGNATURE, draft(SIGNED), target()) or pytest.fail()
    assert repair.name == "thinking_signature"
    assert repairs.next(SIGNATURE, after, target()) is None
    assert [record.name for record in repairs.ran] == ["thinking_signature"]


def test_a_repair_does_not_run_again_even_if_there_is_something_to_mend() -> None:
    repairs = plan()
    assert repairs.next(SIGNATURE, draft(SIGNED), target())
    assert repairs.next(SIGNATURE, draft(SIGNED), target()) is None


def test_each_refusal_of_an_attempt_may_get_another_repair() -> None:
    repairs, now = plan(), draft({**SIGNED, "temperature": 0.5, "context_management": {}})
    for message, name in [
        ("Invalid `signature` in `thinking` block", "thinking_signature"),
        ("`temperature` is deprecated for this model.", "sampling"),
        ("context_management: Extra inputs are not permitted", "extra_inputs"),
    ]:
        repair, now = repairs.next(refusal(message), now, target()) or pytest.fail()
        assert repair.name == name


def test_four_repairs_are_the_most() -> None:
    rules = tuple(
        Rule(
            name=f"rule_{n}",
            label="Count",
            formats=ANTHROPIC,
            says=wording(f"case {n}$"),
            mend=on_document(lambda document, n=n: put(document, "n", n)),  # type: ignore[misc]
        )
        for n in range(6)
    )
    repairs, now = RepairPlan(rules), draft(SIGNED)
    for n in range(4):
        _, now = repairs.next(refusal(f"case {n}"), now, target()) or pytest.fail()
    assert repairs.next(refusal("case 4"), now, target()) is None


def test_a_switched_off_repair_does_not_run_and_the_next_one_is_asked() -> None:
    assert (
        plan().next(SIGNATURE, draft(SIGNED), target(), lambda name: name != "thinking_signature")
        is None
    )
    assert (
        plan().next(SIGNATURE, draft(SIGNED), target(repairs={"thinking_signature": False})) is None
    )


def test_nothing_matches_nothing_happens() -> None:
    assert plan().next(refusal("invalid request: malformed JSON"), draft(SIGNED), target()) is None


def test_which_repairs_run_with_a_clients_own_credentials() -> None:
    """The others are Claude Code's own business, which it does by Anthropic's wording."""
    anthropic = [repair for repair in REPAIRS if WireFormat.ANTHROPIC in repair.formats]
    assert {repair.name for repair in anthropic if repair.on_primary} == ON_AT_THE_PRIMARY
    for repair in anthropic:
        assert isinstance(repair, Rule) and repair.why


def test_at_the_primary_the_refusal_goes_back_unless_its_profile_asks_for_the_repair() -> None:
    at = target(primary=True)
    assert plan().next(SIGNATURE, draft(SIGNED), at) is None
    asked = target(primary=True, repairs={"thinking_signature": True})
    assert plan().next(SIGNATURE, draft(SIGNED), asked)


def test_at_the_primary_a_poisoned_history_is_mended() -> None:
    history = request(user(text()), assistant(call("t1")), user(text("never mind")))
    error = refusal(
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1"
    )
    assert plan().next(error, draft(history), target(primary=True))


# --- records ----------------------------------------------------------------------------------


def changes_of(message: str, before: Draft) -> list[dict[str, str | int]]:
    repairs = plan()
    assert repairs.next(refusal(message), before, target())
    return [change.as_json() for change in repairs.ran[0].changes]


def test_a_record_gives_places_and_sizes_and_never_the_prompt() -> None:
    record = plan()
    record.next(SIGNATURE, draft(SIGNED), target())
    block = len(json.dumps(thinking("a secret thought"), separators=(",", ":")))
    assert record.ran[0].as_json() == {
        "name": "thinking_signature",
        "changes": [{"path": "messages.1.content.0", "op": "removed", "bytes": block}],
    }
    assert "secret" not in json.dumps(record.ran[0].as_json())


def test_a_record_says_what_was_added_changed_and_removed() -> None:
    history = request(user(text()), assistant(call("t1")), user(text("x")), temperature=0.5)
    added = changes_of(
        "`tool_use` ids were found without `tool_result` blocks immediately after", draft(history)
    )
    assert [(c["path"], c["op"]) for c in added] == [("messages.2.content.0", "added")]
    removed = changes_of("`temperature` is deprecated for this model.", draft(history))
    assert removed == [{"path": "temperature", "op": "removed", "bytes": 3}]
    limited = changes_of("max_tokens: 32000 > 8192, which is the maximum", draft(history))
    assert [(c["path"], c["op"]) for c in limited] == [
        ("max_tokens", "changed"),
        ("profile.max_output_tokens", "added"),
    ]


def test_a_changed_header_is_recorded() -> None:
    changed = changes_of("invalid beta flag", draft(SIGNED, betas="oauth-1,x-1"))
    assert ("headers.anthropic-beta.0", "changed") in [(c["path"], c["op"]) for c in changed]


def test_a_long_history_makes_a_short_record() -> None:
    turns = [
        message
        for n in range(200)
        for message in (user(text()), assistant(thinking(str(n)), text()))
    ]
    assert len(changes_of("Invalid `signature` in `thinking` block", draft(request(*turns)))) == 20


def test_a_lone_surrogate_does_not_break_the_record() -> None:
    broken = request(user(text()), assistant(thinking("\ud83d"), text("a")), user(text()))
    assert changes_of("Invalid `signature` in `thinking` block", draft(broken))


# --- what was learned -------------------------------------------------------------------------


def test_facts_are_learned_and_mended_content_is_not() -> None:
    repairs, now = plan(), draft({**SIGNED, "context_management": {}})
    _, now = repairs.next(SIGNATURE, now, target()) or pytest.fail()
    repairs.next(refusal("context_management: Extra inputs are not permitted"), now, target())
    assert repairs.learned() == {"strip_fields": ["context_management"]}


LEARNED = [
    (
        "context_management: Extra inputs are not permitted",
        request(user(text()), context_management={"edits": []}),
    ),
    (
        "tools.3.custom.defer_loading: Extra inputs are not permitted",
        request(user(text()), tools=[tool(defer_loading=True)]),
    ),
    (
        "thinking: Extra inputs are not permitted",
        request(user(text()), thinking={"type": "adaptive"}),
    ),
    ("invalid beta flag", request(user(text()), output_config={"effort": "low"})),
    (
        "Unexpected value(s) `effort-2025-11-24` for the `anthropic-beta` header.",
        request(user(text()), output_config={"effort": "low"}),
    ),
    (
        "messages.1.role: Input should be 'user' or 'assistant'",
        request(user(text()), {"role": "system", "content": "x"}),
    ),
    ("Model only support text input", request(user(image()))),
    (
        "max_tokens: 32000 > 8192, which is the maximum",
        request(user(text()), thinking={"type": "enabled", "budget_tokens": 9000}),
    ),
    (
        "The unique ID of the user must be between 6 and 128 characters",
        request(user(text()), metadata={"user_id": "{}"}),
    ),
    (
        '"thinking.type.enabled" is not supported for this model.',
        request(user(text()), thinking={"type": "enabled", "budget_tokens": 9000}),
    ),
    (
        "adaptive thinking is not supported on this model",
        request(user(text()), thinking={"type": "adaptive"}),
    ),
]


@pytest.mark.parametrize(("message", "document"), LEARNED)
def test_k17_what_was_learned_is_applied_before_the_next_attempt(
    message: str, document: dict[str, object]
) -> None:
    """The second request needs no repair: it starts as the first one ended."""
    before = draft(document, betas="oauth-2025-04-20,effort-2025-11-24")
    repairs = plan()
    _, mended = repairs.next(refusal(message), before, target()) or pytest.fail()
    known = with_known_facts(before, target(**repairs.learned()))
    assert known.document == mended.document and list(known.headers) == list(mended.headers)


def test_without_facts_the_very_same_draft_is_sent() -> None:
    before = draft(SIGNED, betas="x-1")
    assert with_known_facts(before, target()) is before
    facts: dict[str, Any] = {
        "strip_fields": ["speed"],
        "strip_betas": ["y"],
        "images": False,
        "max_output_tokens": 99_999,
    }
    assert with_known_facts(before, target(**facts)) is before


def test_a_clients_own_credentials_get_what_the_client_sent() -> None:
    before = draft(request(user(image(png()))))
    assert with_known_facts(before, target(images=False)) is not before
    assert with_known_facts(before, target(primary=True, images=False)) is before
    assert with_known_facts(before, target(WireFormat.OPENAI, images=False)) is before


def test_results_that_were_moved_are_told_from_results_that_were_lost() -> None:
    history = request(assistant(call("a"), call("b")), user(text("x"), result("b"), result("a")))
    changed = changes_of(
        "`tool_use` ids were found without `tool_result` blocks immediately after", draft(history)
    )
    assert sorted(str(c["op"]) for c in changed) == ["added", "removed"]


# --- from a call and back -----------------------------------------------------------------------


def test_k23_a_mended_call_still_asks_for_the_clients_model() -> None:
    body = json.dumps({**SIGNED, "model": "a"}).encode()
    asked = Call("req_1", "POST", MESSAGES, b"beta=true", [(b"x", b"y")], body, model="a")
    at = Target(replace(target().provider, exact_mappings={"a": "b", "b": "c"}), "b")
    original = draft_of(asked)
    _, mended = plan().next(SIGNATURE, original, at) or pytest.fail()
    again, still = redrafted(asked, at, original, mended)
    assert again.document()["model"] == again.model == "a" and still.model == "b"
    assert again.document() == mended.document and again.headers == asked.headers
    assert still is at


def test_what_a_repair_did_not_change_is_not_made_anew() -> None:
    asked = Call("req_1", "POST", MESSAGES, b"", [], b'{"messages" : [], "model":"a"}', model="a")
    original = draft_of(asked)
    turned = replace(original, profile={"images": False})
    again, at = redrafted(asked, target(WireFormat.OPENAI, images=True, x=1), original, turned)
    assert again is asked
    assert at.provider.profile == {"images": False, "x": 1}


def test_a_cut_emoji_survives_the_way_back() -> None:
    asked = Call("req_1", "POST", MESSAGES, b"", [], b'{"a":"\\ud83d","b":1}')
    original = draft_of(asked)
    again, _ = redrafted(asked, target(), original, replace(original, document={"a": "\ud83d"}))
    assert again.body == b'{"a":"\\ud83d"}'
