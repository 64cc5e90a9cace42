"""Whatever a repair does to a request of Claude Code's, the result is one that the API takes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.routing import WireFormat
from proxy.rectifiers import REPAIRS, Draft, plan
from proxy.rectifiers.content import (
    MAX_CACHE_MARKS,
    drop_empty_text,
    end_with_user,
    limit_cache_marks,
)
from proxy.rectifiers.inline_system import fold_inline_system
from proxy.rectifiers.media import without_images
from proxy.rectifiers.provenance import signatures_in, strip_foreign
from proxy.rectifiers.thinking import (
    drop_thinking,
    drop_unbacked_thinking,
    last_turn_lacks_thinking,
)
from proxy.rectifiers.tool_ids import legal_ids, unique_ids
from proxy.rectifiers.tool_pairing import pair_tools
from tests.histories import (
    all_blocks,
    assert_distinct_legal_ids,
    assert_no_empty_text,
    assert_paired,
    assert_typed,
    draft,
    marked,
    refusal,
    requests,
    target,
)
from tests.test_repair_wording import ANTHROPIC_REFUSALS, OPENAI_REFUSALS

Json = dict[str, Any]

MESSAGES = [message for _, message in ANTHROPIC_REFUSALS + OPENAI_REFUSALS]
quick = settings(max_examples=4000, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(requests(), st.data())
def test_a_valid_request_stays_valid_and_untouched_whatever_is_mended(
    document: Json, data: st.DataObject
) -> None:
    """Up to four repairs in a row, at any provider, by any of the known refusals."""
    format = data.draw(st.sampled_from(list(WireFormat)))
    at = target(format, max_output_tokens=data.draw(st.sampled_from([None, 8192])))
    now, repairs = draft(document, betas="oauth-2025-04-20,effort-2025-11-24"), plan()
    for message in data.draw(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=6)):
        kept = copy.deepcopy(now)
        step = repairs.next(refusal(message), now, at)
        assert now == kept
        if step is None:
            continue
        assert step[1] != now, "a repair that changes nothing must not be tried"
        now = step[1]
        mended: Json = dict(now.document)
        assert_typed(mended)
        assert_paired(mended)
        assert_distinct_legal_ids(mended)
        assert_no_empty_text(mended)
        assert len(list(marked(mended))) <= MAX_CACHE_MARKS
        assert mended["model"] == document["model"]
    assert len(repairs.ran) <= 4


@settings(quick, max_examples=1500)
@given(requests(sloppy=True))
def test_a_damaged_request_is_never_changed_in_place(document: Json) -> None:
    before = draft(document)
    kept = copy.deepcopy(before)
    for _, message in ANTHROPIC_REFUSALS:
        for repair in REPAIRS:
            if repair.matches(refusal(message), target()):
                repair.apply(before, refusal(message), target())
    assert before == kept


@quick
@given(requests(sloppy=True))
def test_any_history_can_be_paired(document: Json) -> None:
    """Once ids are unique, as the API checks them first."""
    paired = dict(pair_tools(unique_ids(document)))
    assert_paired(paired)
    assert_distinct_legal_ids(paired, legal=False)
    assert pair_tools(paired) is paired, "nothing is left to do"


@quick
@given(requests(sloppy=True))
def test_pairing_keeps_everything_that_was_said(document: Json) -> None:
    paired = dict(pair_tools(document))
    assert [b for b in all_blocks(paired) if b["type"] == "tool_use"] == [
        b for b in all_blocks(document) if b["type"] == "tool_use"
    ]
    kept = json.dumps(paired)
    for block in all_blocks(document):
        if block["type"] == "text" and block["text"].strip():
            assert json.dumps(block["text"])[1:-1] in kept
        if block["type"] == "image":
            assert json.dumps(block) in kept


@quick
@given(requests(sloppy=True))
def test_ids_become_legal_and_results_keep_their_calls(document: Json) -> None:
    clean = dict(legal_ids(unique_ids(document)))
    assert_distinct_legal_ids(clean)
    assert legal_ids(clean) is clean

    def links(doc: Json) -> list[tuple[int, int]]:
        blocks = list(all_blocks(doc))
        return [
            (i, j)
            for i, a in enumerate(blocks)
            for j, b in enumerate(blocks)
            if a["type"] == "tool_use"
            and b["type"] == "tool_result"
            and a["id"] == b["tool_use_id"]
        ]

    assert links(clean) == links(dict(unique_ids(document)))


@quick
@given(requests(sloppy=True))
def test_no_empty_text_is_left(document: Json) -> None:
    filled = dict(drop_empty_text(document))
    assert_no_empty_text(filled)
    assert_typed(filled)
    assert len(list(marked(filled))) <= len(list(marked(document)))


@quick
@given(requests(sloppy=True))
def test_at_most_four_cache_marks_are_left_and_text_stays(document: Json) -> None:
    limited = dict(limit_cache_marks(document))
    assert len(list(marked(limited))) == min(MAX_CACHE_MARKS, len(list(marked(document))))
    assert [b.get("text") for b in all_blocks(limited)] == [
        b.get("text") for b in all_blocks(document)
    ]


@quick
@given(requests(), st.sampled_from(["EqQBsig", "EuYBsig", "EmwKdata"]))
def test_foreign_thinking_goes_and_own_thinking_stays(document: Json, own: str) -> None:
    hashes = set(signatures_in(document))
    mine = set(signatures_in({"messages": [{"role": "assistant", "content": [_signed(own)]}]}))
    stripped = strip_foreign(document, lambda hash: hash not in mine)
    if stripped is None:
        assert hashes <= mine
        return
    assert set(signatures_in(stripped)) == hashes & mine
    assert_typed(dict(stripped))
    assert_paired(dict(stripped))
    if dict(stripped).get("thinking", {}).get("type") == "enabled":
        assert not last_turn_lacks_thinking(stripped)


def _signed(signature: str) -> Json:
    return {"type": "thinking", "thinking": "x", "signature": signature}


CHANGES: list[Callable[[Json], Any]] = [
    lambda d: drop_thinking(d, lambda block: True),
    drop_unbacked_thinking,
    pair_tools,
    unique_ids,
    legal_ids,
    drop_empty_text,
    limit_cache_marks,
    end_with_user,
    fold_inline_system,
    without_images,
]


@quick
@given(requests(sloppy=True), st.sampled_from(CHANGES))
def test_a_change_made_once_has_nothing_left_to_do(
    document: Json, change: Callable[[Json], Any]
) -> None:
    once = change(document)
    assert change(once) is once


@quick
@given(requests())
def test_folded_system_messages_say_the_same(document: Json) -> None:
    folded = dict(fold_inline_system(document))
    assert all(message["role"] != "system" for message in folded["messages"])
    assert_typed(folded)
    assert_paired(folded)
    told = [block["text"] for block in all_blocks(folded) if block["type"] == "text"]
    for message in document["messages"]:
        if message["role"] == "system" and isinstance(message["content"], str):
            assert any(message["content"] in words for words in told)


@given(st.text(max_size=300))
@settings(max_examples=5000, deadline=None)
def test_any_wording_is_read_without_harm(message: str) -> None:
    document = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
    for format in WireFormat:
        plan().next(refusal(message), Draft(document), target(format))
