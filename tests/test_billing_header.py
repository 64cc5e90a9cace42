"""Claude Code's attribution header in front of the system prompt."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from proxy.formats.billing import (
    may_have_header,
    strip_cch_in_body,
    without_billing_header,
    without_cch,
)
from tests.openai_dialect import asking, messages_sent, text

HEADER = "x-anthropic-billing-header: cc_version=2.1.38.713; cc_entrypoint=sdk-ts; cch=90d92;"
SHORT = "x-anthropic-billing-header: cc_version=1; cch=a7754;"

REMOVED: dict[str, tuple[Any, Any]] = {
    "B01 a block of its own": ([text(HEADER), text("You are")], [text("You are")]),
    "B02 at the start of a string": (f"{SHORT}\n\nYou are", "You are"),
    "B02 no newline": (
        "x-anthropic-billing-header: cch=a5145;You are X; do",
        "You are X; do",
    ),
    "at the start of a block": ([text(f"{HEADER}\nYou", extra=1)], [text("You", extra=1)]),
    "B04 no semicolon at the end": (
        "x-anthropic-billing-header: cc_version=1; cch=abc\nYou are; a; b=c;",
        "You are; a; b=c;",
    ),
    "no cch": ("x-anthropic-billing-header: cc_version=1; cc_entrypoint=cli;\nYou", "You"),
    "nothing else": (SHORT, ""),
    "a list of strings": ([SHORT, "You"], ["You"]),
}


@pytest.mark.parametrize(("system", "expected"), REMOVED.values(), ids=REMOVED)
def test_the_whole_header_is_removed(system: Any, expected: Any) -> None:
    before = copy.deepcopy(system)

    assert without_billing_header(system) == expected
    assert system == before


UNTOUCHED: dict[str, Any] = {
    "B05 a second block": [text("You are"), text("x-anthropic-billing-header: cch=1;")],
    "quoted in the text": "Explain x-anthropic-billing-header: cch=1; please",
    "not a header": "x-anthropic-billing-header: what is it?",
    "none": None,
    "empty": [],
    "an odd block first": [{"type": "image"}, text(SHORT)],
}


@pytest.mark.parametrize("system", UNTOUCHED.values(), ids=UNTOUCHED)
def test_nothing_else_is_touched(system: Any) -> None:
    assert without_billing_header(system) is system
    assert without_cch(system) is system


STRIPPED: dict[str, tuple[Any, Any]] = {
    "B03 a block": (
        [text(HEADER, cache_control={"type": "ephemeral"}), text("You are cch=1;")],
        [
            text(HEADER.replace("cch=90d92;", ""), cache_control={"type": "ephemeral"}),
            text("You are cch=1;"),
        ],
    ),
    "a string": (
        f"{SHORT}\n\nYou; cch=2;",
        "x-anthropic-billing-header: cc_version=1; \n\nYou; cch=2;",
    ),
    "B04 no semicolon": (
        "x-anthropic-billing-header: cc_version=1; cch=abc\nYou; are;",
        "x-anthropic-billing-header: cc_version=1; \nYou; are;",
    ),
    "in the middle": (
        "x-anthropic-billing-header: cch=1; cc_version=1;",
        "x-anthropic-billing-header:  cc_version=1;",
    ),
}


@pytest.mark.parametrize(("system", "expected"), STRIPPED.values(), ids=STRIPPED)
def test_b03_only_the_changing_part_is_removed(system: Any, expected: Any) -> None:
    before = copy.deepcopy(system)

    assert without_cch(system) == expected
    assert system == before


def test_b03_requests_that_differ_only_in_it_become_equal() -> None:
    one, other = (without_cch([text(HEADER.replace("90d92", cch))]) for cch in ("11111", "22222"))

    assert one == other


def test_b05_a_user_may_quote_it() -> None:
    quoted = "x-anthropic-billing-header: cch=1;"

    assert messages_sent(asking(quoted))[-1]["content"] == quoted


def as_body(system: Any, *, first: bool = False, **fields: Any) -> bytes:
    said = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, **fields}
    prompt = {"system": system}
    return json.dumps({"model": "m", **prompt, **said} if first else {**said, **prompt}).encode()


QUOTED: dict[str, Any] = {
    "nowhere else": {},
    "by the user": {"messages": [{"role": "user", "content": SHORT}]},
    "in a tool's input": {"tools": [{"input": {"system": SHORT}}]},
    "in a tool's input as blocks": {"tools": [{"input": {"system": [text(SHORT)]}}]},
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("fields", QUOTED.values(), ids=QUOTED)
@pytest.mark.parametrize(
    ("system", "expected"),
    [*STRIPPED.values(), *((system, system) for system in UNTOUCHED.values())],
    ids=[*STRIPPED, *UNTOUCHED],
)
def test_in_a_body_it_goes_and_every_other_byte_stays(
    system: Any, expected: Any, fields: Any, first: bool
) -> None:
    body = as_body(system, first=first, **fields)

    stripped = strip_cch_in_body(body)

    assert json.loads(stripped) == json.loads(as_body(expected, first=first, **fields))
    assert (stripped is body) == (expected == system)
    assert strip_cch_in_body(stripped) is stripped


@pytest.mark.parametrize(
    "odd",
    [
        as_body(SHORT, x="\ud83d"),
        as_body(SHORT, x="?").replace(b"?", b"\xff"),
        as_body(SHORT).replace(b'"system"', b'"\\u0073ystem"'),
    ],
)
def test_bodies_that_few_decoders_take_are_stripped_all_the_same(odd: bytes) -> None:
    assert b"cch=" in odd
    assert b"cch=" not in strip_cch_in_body(odd)


def test_without_the_header_a_body_is_not_even_decoded() -> None:
    assert not may_have_header(as_body("You are", x="cch=1; x-anthropic-billing-header: cch=1;"))
    assert may_have_header(as_body([text(HEADER)]))
