"""The signature of thinking that this proxy made for other providers."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats import envelope
from proxy.formats.envelope import MAX_SIGNATURE, Provenance, is_minted, mint, read, strip_minted
from tests.openai_dialect import assistant, text, tool_result, tool_use, user

printable = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    st.builds(
        Provenance,
        provider=printable,
        source=printable,
        text=st.none() | printable,
        details=st.lists(st.dictionaries(printable, printable, max_size=2), max_size=3),
        thought_signatures=st.dictionaries(printable, printable, max_size=3),
    )
)
def test_what_is_minted_can_be_read(provenance: Provenance) -> None:
    signature = mint(provenance)

    assert is_minted(signature)
    assert signature.isascii()
    assert read(signature) == Provenance(
        provenance.provider,
        provenance.source,
        provenance.text,
        provenance.details or (),
        provenance.thought_signatures,
    )


def noise(size: int) -> str:
    """Text that does not compress."""
    return "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=size)))


def test_what_does_not_fit_is_left_out_details_first() -> None:
    provenance = Provenance("7", "r", "kept", [{"text": noise(60_000)}], {"a": "SIG"})
    signature = mint(provenance)
    assert len(signature) <= MAX_SIGNATURE
    assert read(signature) == Provenance("7", "r", "kept", (), {"a": "SIG"})

    enormous = mint(Provenance("7", "r", noise(60_000), (), {"a": noise(60_000)}))
    assert len(enormous) <= MAX_SIGNATURE
    assert read(enormous) == Provenance("7", "r")


@pytest.mark.parametrize(
    "signature",
    [
        None,
        5,
        "",
        "EqQBsigned",
        "ccf1.",
        "ccf1.%%%",
        "ccf1.AAAA",
        "ccf1.\u00fc",
        mint(Provenance("7"))[:-4],
    ],
    ids=repr,
)
def test_what_is_not_ours_or_is_damaged_says_nothing(signature: Any) -> None:
    assert read(signature) is None


@given(st.text(max_size=40).map(lambda rest: "ccf1." + rest))
def test_no_signature_is_a_crash(signature: str) -> None:
    read(signature)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = envelope._encode({"p": "7", "t": "a" * 20_000_000})

    assert len(bomb) < 64 * 1024
    assert read(bomb) is None


def test_half_an_emoji_costs_the_contents_but_not_the_mark() -> None:
    signature = mint(Provenance("7", text="\ud83d"))

    assert is_minted(signature)


SIGNED = {"type": "thinking", "thinking": "t", "signature": "EqQBsigned"}
OURS = {"type": "thinking", "thinking": "t", "signature": mint(Provenance("7"))}
UNSIGNED = {"type": "thinking", "thinking": "t", "signature": ""}
REDACTED = {"type": "redacted_thinking", "data": "x"}
LOOP = (tool_use("a"),)
RESULT = user(tool_result("a"))


def request(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [user(text("go")), *messages], **fields}


def stripped(document: dict[str, Any], provider: str = "1") -> Any:
    before = copy.deepcopy(document)
    result = strip_minted(document, provider)
    assert document == before
    return result


@pytest.mark.parametrize(
    "document",
    [
        request(assistant(SIGNED, text("x")), "y"),
        request(assistant(REDACTED, text("x"))),
        request({"role": "assistant", "content": "plain"}),
        request(user(OURS)),
        {"messages": 5},
        {},
    ],
    ids=str,
)
def test_nothing_to_strip_is_none(document: dict[str, Any]) -> None:
    assert stripped(document) is None


def test_k03_thinking_of_others_is_stripped_and_real_signatures_stay() -> None:
    document = request(assistant(SIGNED, OURS, UNSIGNED, text("x")), user(text("y")))

    result = stripped(document)
    assert result["messages"][1]["content"] == [SIGNED, text("x")]
    assert result["messages"][2] is document["messages"][2]
    mine = stripped(document, "7")
    assert mine["messages"][1]["content"] == [SIGNED, OURS, text("x")]


def test_k05_a_message_of_nothing_but_thinking_goes() -> None:
    result = stripped(request(assistant(OURS), user(text("y"))))

    assert [message["role"] for message in result["messages"]] == ["user", "user"]


EDITS = {"edits": [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]}
ENABLED = {"type": "enabled", "budget_tokens": 2000}


def test_thinking_is_switched_off_where_the_open_tool_loop_lost_its_start() -> None:
    loop = (assistant(OURS, *LOOP), RESULT)
    result = stripped(request(*loop, thinking=ENABLED, context_management=EDITS))

    assert "thinking" not in result
    assert result["context_management"] == {"edits": [EDITS["edits"][1]]}
    only_thinking = {"edits": EDITS["edits"][:1]}
    result = stripped(request(*loop, thinking=ENABLED, context_management=only_thinking))
    assert "context_management" not in result


KEPT = {
    "adaptive": request(assistant(OURS, *LOOP), RESULT, thinking={"type": "adaptive"}),
    "no loop under way": request(assistant(OURS, text("x")), user(text("y")), thinking=ENABLED),
    "the loop still starts with thinking": request(
        assistant(OURS, text("x")),
        user(text("y")),
        assistant(SIGNED, *LOOP),
        RESULT,
        thinking=ENABLED,
    ),
}


@pytest.mark.parametrize("document", KEPT.values(), ids=KEPT)
def test_otherwise_thinking_stays_on(document: dict[str, Any]) -> None:
    assert stripped(document)["thinking"] == document["thinking"]
