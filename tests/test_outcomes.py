"""What follows from an answer. The expectations are written out, not computed by the code."""

from __future__ import annotations

import itertools

import pytest

from providers.routing import Credentials, ProviderSpec
from proxy.errors import (
    Failure,
    InvalidReply,
    NetworkFailure,
    RequestRefused,
    TimeLimitExceeded,
    UpstreamRefused,
)
from proxy.formats.anthropic import read_error
from proxy.outcomes import (
    FinalError,
    Verdict,
    may_retry,
    verdict_of,
    verdict_of_refusal,
    verdict_of_status,
)
from proxy.wire import ErrorReply
from tests.upstreams import error_body

CLIENT = ProviderSpec(1, "primary", "http://p", credentials=Credentials.CLIENT)
STRICT = ProviderSpec(
    2, "strict", "http://p", credentials=Credentials.CLIENT, return_client_401=True
)
OWN = ProviderSpec(3, "fallback", "http://p", credentials=Credentials.OWN, return_client_401=True)

S, N, G = Verdict.SUCCESS, Verdict.NEXT, Verdict.GIVE_UP
PRIMARY_TABLE = [
    (100, 199, N),
    (200, 299, S),
    (300, 399, N),
    (400, 400, G),
    (401, 403, N),
    (404, 407, G),
    (408, 408, N),
    (409, 428, G),
    (429, 429, N),
    (430, 499, G),
    (500, 599, N),
]
FALLBACK_TABLE = [(100, 199, N), (200, 299, S), (300, 599, N)]


def expected(table: list[tuple[int, int, Verdict]]) -> dict[int, Verdict]:
    return {status: verdict for first, last, verdict in table for status in range(first, last + 1)}


@pytest.mark.parametrize(("own_key", "table"), [(False, PRIMARY_TABLE), (True, FALLBACK_TABLE)])
def test_every_status_has_its_verdict(own_key: bool, table: list[tuple[int, int, Verdict]]) -> None:
    found = {status: verdict_of_status(status, own_key=own_key) for status in range(100, 600)}
    assert found == expected(table)


@pytest.mark.parametrize(
    ("provider", "table"), [(CLIENT, PRIMARY_TABLE), (OWN, FALLBACK_TABLE), (STRICT, PRIMARY_TABLE)]
)
def test_every_status_of_an_error_reply_has_the_same_verdict(
    provider: ProviderSpec, table: list[tuple[int, int, Verdict]]
) -> None:
    wanted = {s: v for s, v in expected(table).items() if v is not S}
    if provider is STRICT:
        wanted[401] = G
    found = {s: verdict_of_refusal(said(s, "no", "x_error"), provider) for s in wanted}
    assert found == wanted


def said(status: int, message: str, kind: str = "invalid_request_error") -> ErrorReply:
    return read_error(status, (), error_body(kind, message))


@pytest.mark.parametrize(
    ("status", "message", "kind", "verdict"),
    [
        (400, "Your credit balance is too low to access the Anthropic API.", "", N),
        (400, "your CREDIT balance is too low", "", N),
        (404, "Your credit balance is too low", "", G),
        (413, "Your credit balance is too low", "", G),
        (400, "rate_limit_exceeded", "", N),
        (400, "Rate limit reached for model x", "", N),
        (400, "Limit 8000 tokens per minute", "", N),
        (413, "Request too large on tokens per min (TPM)", "", N),
        (413, "over the limit", "rate_limit_error", N),
        (400, "over the limit", "rate_limit_error", N),
        (404, "rate_limit_exceeded", "", G),
        (422, "tokens per minute", "", G),
        (413, "Request exceeds the maximum size", "request_too_large", G),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", "", G),
        (400, "messages.1.content.0: Invalid `signature` in `thinking` block", "", G),
        (400, "the attempt failed", "", G),  # "TPM" inside another word
        (429, "anything at all", "", N),
        (529, "prompt is too long", "", N),
    ],
)
def test_wording_decides_where_a_status_of_the_primary_is_ambiguous(
    status: int, message: str, kind: str, verdict: Verdict
) -> None:
    reply = said(status, message, kind or "invalid_request_error")
    assert verdict_of_refusal(reply, CLIENT) is verdict
    assert verdict_of_refusal(reply, OWN) is N


@pytest.mark.parametrize(
    "failure",
    [
        NetworkFailure("cut"),
        TimeLimitExceeded("first byte", 1),
        InvalidReply("HTML"),
        RequestRefused("cannot carry it"),
    ],
)
@pytest.mark.parametrize("provider", [CLIENT, STRICT, OWN])
def test_whatever_is_no_answer_at_all_moves_on(failure: Failure, provider: ProviderSpec) -> None:
    assert verdict_of(failure, provider) is N


def test_a_request_that_the_client_can_mend_goes_back_to_it() -> None:
    assert verdict_of(RequestRefused("mend it", final=True), OWN) is G


RETRIED: list[tuple[Failure, bool]] = [
    (NetworkFailure("cut"), True),
    (TimeLimitExceeded("connect", 1), True),
    (TimeLimitExceeded("first byte", 1), False),
    (TimeLimitExceeded("idle", 1), False),
    (InvalidReply("HTML"), False),
    (RequestRefused("no"), False),
]


@pytest.mark.parametrize(("failure", "retried"), RETRIED)
def test_only_the_network_is_tried_again(failure: Failure, retried: bool) -> None:
    assert may_retry(failure) is retried


def test_only_5xx_is_tried_again() -> None:
    retried = {s for s in range(100, 600) if may_retry(UpstreamRefused(said(s, "no")))}
    assert retried == set(range(500, 600))


# --- what the client hears when all have failed -------------------------------

OVERFLOW = "prompt is too long: 210000 tokens > 200000 maximum"


def final(*failures: tuple[ErrorReply, ProviderSpec]) -> tuple[ErrorReply, bool]:
    error = FinalError()
    for reply, provider in failures:
        error.add(reply, provider)
    return error.best()


def test_a_context_overflow_is_heard_when_everybody_reports_it() -> None:
    first, last = said(400, OVERFLOW), said(413, "Input is too long for this model")
    assert final((first, OWN), (last, OWN)) == (last, False)
    assert final((last, OWN)) == (last, False)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_context_overflow_of_one_gives_way_to_the_limit_of_another(
    order: tuple[int, int],
) -> None:
    limit = said(429, "slow down", "rate_limit_error")
    failures = [(limit, CLIENT), (said(400, OVERFLOW), OWN)]
    assert final(*(failures[i] for i in order)) == (limit, False)


def test_the_last_eligible_failure_is_heard() -> None:
    first, second = said(429, "first"), said(529, "second")
    assert final((first, CLIENT), (second, OWN)) == (second, False)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_an_eligible_failure_is_heard_before_complaints_and_rejected_keys(
    order: tuple[int, ...],
) -> None:
    limit = said(429, "the primary's own limit", "rate_limit_error")
    failures = [
        (limit, CLIENT),
        (said(400, "I dislike this request"), OWN),
        (said(401, "bad key"), OWN),
        (said(404, "no such model"), OWN),
    ]
    assert final(*(failures[i] for i in order)) == (limit, False)


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_a_complaint_is_heard_before_a_rejected_key(order: tuple[int, ...]) -> None:
    complaint = said(404, "no such model")
    failures = [(complaint, OWN), (said(403, "bad key"), OWN)]
    assert final(*(failures[i] for i in order)) == (complaint, False)


def test_the_last_complaint_is_heard() -> None:
    last = said(422, "second")
    assert final((said(400, "first"), OWN), (last, OWN)) == (last, False)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_rejected_key_of_ours_is_told_apart(status: int) -> None:
    reply = said(status, "bad key")
    assert final((reply, OWN)) == (reply, True)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_rejected_key_of_the_client_is_the_clients_to_hear(status: int) -> None:
    reply = said(status, "log in again", "authentication_error")
    assert final((reply, CLIENT)) == (reply, False)
    assert final((reply, CLIENT), (said(401, "bad key"), OWN)) == (reply, False)
