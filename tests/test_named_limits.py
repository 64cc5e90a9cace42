"""What a provider says about when it will be back: every header, good, missing and absurd."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.health import MAX_NAMED, OutcomeKind, Scope, failure, outcome_of

NOW = 1_760_000_000.0
HOUR = 3600.0
DAY = 86400.0
UNIFIED = "anthropic-ratelimit-unified-"


def pairs(**headers: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]


def unified(**fields: str) -> list[tuple[bytes, bytes]]:
    """Unified headers; a double underscore is a dash, a single one itself."""
    return [((UNIFIED + k.replace("__", "-")).encode(), v.encode()) for k, v in fields.items()]


def at(seconds: float) -> str:
    return str(int(NOW + seconds))


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)


def exhausted(name: str, seconds: float, remaining: str = "0") -> list[tuple[bytes, bytes]]:
    prefix = f"anthropic-ratelimit-{name}-"
    return [
        (f"{prefix}limit".encode(), b"50"),
        (f"{prefix}remaining".encode(), remaining.encode()),
        (f"{prefix}reset".encode(), rfc3339(seconds).encode()),
    ]


REJECTED = {"status": "rejected"}
FIVE_HOURS = REJECTED | {"representative__claim": "five_hour", "reset": at(4 * HOUR)}


@pytest.mark.parametrize(
    ("headers", "seconds", "scope", "reason"),
    [
        pytest.param(pairs(retry_after="30"), 30, "model", "rate limit (this model)", id="seconds"),
        pytest.param(pairs(retry_after="1.5"), 1.5, "model", "rate limit (this model)", id="part"),
        pytest.param(
            pairs(retry_after=http_date(90)), 90, "model", "rate limit (this model)", id="date"
        ),
        pytest.param(
            [(b"Retry-After", b" 30 ")], 30, "model", "rate limit (this model)", id="any case"
        ),
        pytest.param(
            unified(**FIVE_HOURS), 4 * HOUR, "credential", "5-hour limit", id="five hours"
        ),
        pytest.param(
            unified(**REJECTED, representative__claim="seven_day", reset=at(6 * DAY)),
            6 * DAY,
            "credential",
            "7-day limit",
            id="seven days",
        ),
        pytest.param(
            unified(**REJECTED, representative__claim="seven_day_opus", reset=at(6 * DAY)),
            6 * DAY,
            "model",
            "7-day Opus limit",
            id="a model's own window",
        ),
        pytest.param(
            unified(**REJECTED, representative__claim="seven_day_sonnet", reset=at(DAY)),
            DAY,
            "model",
            "7-day Sonnet limit",
            id="another model's own window",
        ),
        pytest.param(
            unified(**REJECTED, representative__claim="seven_day_overage_included", reset=at(DAY)),
            DAY,
            "model",
            "7-day limit of this model",
            id="the window of a model that it does not name",
        ),
        pytest.param(
            unified(**REJECTED, representative__claim="overage", reset=at(HOUR)),
            HOUR,
            "credential",
            "usage limit",
            id="extra usage is used up",
        ),
        pytest.param(
            unified(**REJECTED, representative__claim="monthly", reset=at(HOUR)),
            HOUR,
            "credential",
            "usage limit",
            id="a claim that is not known",
        ),
        pytest.param(
            unified(reset=at(HOUR)), HOUR, "credential", "usage limit", id="only the reset"
        ),
        pytest.param(
            unified(**{"5h__status": "rejected", "5h__reset": at(HOUR)}),
            HOUR,
            "credential",
            "5-hour limit",
            id="only a window",
        ),
        pytest.param(
            unified(**REJECTED, **{"5h__status": "rejected", "5h__reset": at(HOUR)}),
            HOUR,
            "credential",
            "5-hour limit",
            id="a window, and a verdict without claim or reset",
        ),
        pytest.param(
            unified(
                **FIVE_HOURS,
                **{"5h__status": "rejected", "5h__reset": at(4 * HOUR)},
                **{"7d__status": "rejected", "7d__reset": at(3 * DAY)},
            ),
            3 * DAY,
            "credential",
            "7-day limit",
            id="the latest of two rejected windows",
        ),
        pytest.param(
            unified(
                **FIVE_HOURS,
                **{"7d__status": "allowed_warning", "7d__reset": at(3 * DAY)},
                overage__status="rejected",
                overage__reset=at(7 * DAY),
            ),
            4 * HOUR,
            "credential",
            "5-hour limit",
            id="windows with room left, and extra usage, do not matter",
        ),
        pytest.param(
            unified(**FIVE_HOURS) + pairs(retry_after="30"),
            4 * HOUR,
            "credential",
            "5-hour limit",
            id="the window goes before retry-after",
        ),
        pytest.param(
            unified(**REJECTED, representative__claim="five_hour") + pairs(retry_after="600"),
            600,
            "credential",
            "5-hour limit",
            id="a window without a time takes retry-after's",
        ),
        pytest.param(
            unified(
                **REJECTED, representative__claim="five_hour", **{"7d_opus__status": "rejected"}
            )
            + pairs(retry_after="600"),
            600,
            "credential",
            "5-hour limit",
            id="without any time the claim tells the scope",
        ),
        pytest.param(
            unified(
                **REJECTED, reset=at(HOUR), **{"5h__status": "rejected", "5h__reset": at(HOUR)}
            ),
            HOUR,
            "credential",
            "5-hour limit",
            id="without a claim the window has the name",
        ),
        pytest.param(
            unified(**REJECTED, representative__claim="five_hour", reset="soon")
            + pairs(retry_after="600"),
            600,
            "credential",
            "5-hour limit",
            id="an unreadable reset gives way to retry-after",
        ),
        pytest.param(
            unified(status="allowed", representative__claim="five_hour", reset=at(4 * HOUR))
            + pairs(retry_after="20"),
            20,
            "model",
            "rate limit (this model)",
            id="the reset of a window with room left is not a limit",
        ),
        pytest.param(
            exhausted("requests", 50), 50, "model", "rate limit (this model)", id="requests"
        ),
        pytest.param(exhausted("tokens", 50), 50, "model", "rate limit (this model)", id="tokens"),
        pytest.param(
            exhausted("input-tokens", 50), 50, "model", "rate limit (this model)", id="input"
        ),
        pytest.param(
            exhausted("output-tokens", 50), 50, "model", "rate limit (this model)", id="output"
        ),
        pytest.param(
            exhausted("requests", 50)
            + exhausted("tokens", 55)
            + exhausted("input-tokens", 59, "9"),
            55,
            "model",
            "rate limit (this model)",
            id="the latest of those used up",
        ),
        pytest.param(
            exhausted("requests", 50) + pairs(retry_after="5"),
            5,
            "model",
            "rate limit (this model)",
            id="retry-after goes before a full refill",
        ),
        pytest.param(
            exhausted("requests", 50) + pairs(retry_after="tomorrow"),
            50,
            "model",
            "rate limit (this model)",
            id="an unreadable retry-after is passed over",
        ),
        pytest.param(
            pairs(retry_after=str(int(MAX_NAMED))),
            MAX_NAMED,
            "model",
            "rate limit (this model)",
            id="eight days",
        ),
    ],
)
def test_a_429_cools_down_until_the_time_it_names(
    headers: list[tuple[bytes, bytes]], seconds: float, scope: str, reason: str
) -> None:
    outcome = outcome_of(429, headers, NOW)
    assert outcome.kind is OutcomeKind.LIMIT
    assert outcome.until == pytest.approx(NOW + seconds)
    assert (outcome.scope, outcome.reason, outcome.status) == (Scope(scope), reason, 429)


def test_windows_of_both_kinds_close_each_its_own_scope() -> None:
    outcome = outcome_of(
        429,
        unified(
            **FIVE_HOURS,
            **{"5h__status": "rejected", "5h__reset": at(4 * HOUR)},
            **{"7d_opus__status": "rejected", "7d_opus__reset": at(5 * DAY)},
        ),
        NOW,
    )
    assert [(limit.scope, limit.until - NOW, limit.reason) for limit in outcome.limits] == [
        (Scope.MODEL, 5 * DAY, "7-day Opus limit"),
        (Scope.CREDENTIAL, 4 * HOUR, "5-hour limit"),
    ]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="nothing"),
        pytest.param(pairs(retry_after=""), id="empty"),
        pytest.param(pairs(retry_after="0"), id="now"),
        pytest.param(pairs(retry_after="-5"), id="negative"),
        pytest.param(pairs(retry_after="soon"), id="words"),
        pytest.param(pairs(retry_after="nan"), id="not a number"),
        pytest.param(pairs(retry_after="inf"), id="infinite"),
        pytest.param(pairs(retry_after="1e3"), id="exponent"),
        pytest.param(pairs(retry_after=str(int(MAX_NAMED) + 1)), id="over eight days"),
        pytest.param(pairs(retry_after="9" * 400), id="astronomic"),
        pytest.param(pairs(retry_after=http_date(-1)), id="a date that is past"),
        pytest.param(pairs(retry_after=http_date(9 * DAY)), id="a date too far ahead"),
        pytest.param(pairs(retry_after="Fri, 99 Foo 2025 25:61:61 GMT"), id="a broken date"),
        pytest.param(unified(reset=at(-1)), id="a reset that is past"),
        pytest.param(unified(reset=at(9 * DAY)), id="a reset too far ahead"),
        pytest.param(unified(reset=at(HOUR) + "000"), id="milliseconds"),
        pytest.param(unified(reset="\x00"), id="garbage"),
        pytest.param(unified(status="allowed", reset=at(HOUR)), id="a window with room left"),
        pytest.param(exhausted("requests", 50, "1"), id="requests left"),
        pytest.param(exhausted("requests", 50, ""), id="remaining not said"),
        pytest.param(exhausted("requests", -1), id="full again already"),
        pytest.param(exhausted("requests", 9 * DAY), id="a refill too far ahead"),
        pytest.param([(b"anthropic-ratelimit-requests-reset", b"junk")], id="refill only"),
        pytest.param([(b"\xff", b"\xfe"), (b"retry-after", b"\xff")], id="not ascii"),
    ],
)
def test_a_429_without_a_time_to_trust_is_a_failure_of_that_model(
    headers: list[tuple[bytes, bytes]],
) -> None:
    outcome = outcome_of(429, headers, NOW)
    assert (outcome.kind, outcome.scope) == (OutcomeKind.FAILURE, Scope.MODEL)
    assert (outcome.until, outcome.limits, outcome.reason) == (None, (), "429")


def test_a_rejected_window_without_a_time_is_a_failure_of_that_credential() -> None:
    outcome = outcome_of(429, unified(**REJECTED, representative__claim="five_hour"), NOW)
    assert (outcome.kind, outcome.scope) == (OutcomeKind.FAILURE, Scope.CREDENTIAL)


@pytest.mark.parametrize(
    ("status", "reason"), [(529, "overloaded (529)"), (503, "unavailable (503)")]
)
def test_an_overloaded_provider_that_names_a_time_is_closed_for_everyone(
    status: int, reason: str
) -> None:
    outcome = outcome_of(status, pairs(retry_after="40"), NOW, client_credentials=True)
    assert (outcome.kind, outcome.scope, outcome.until) == (
        OutcomeKind.LIMIT,
        Scope.PROVIDER,
        NOW + 40,
    )
    assert outcome.reason == reason


@pytest.mark.parametrize("status", [500, 502, 504, 401, 408])
def test_no_other_status_names_a_time(status: int) -> None:
    assert outcome_of(status, pairs(retry_after="40"), NOW).kind is OutcomeKind.FAILURE


def expected_kind(status: int, client_credentials: bool) -> OutcomeKind:
    """The whole table, said once more in its own words."""
    if status < 300:
        return OutcomeKind.SUCCESS
    if client_credentials and status in {401, 402, 403}:
        return OutcomeKind.CLIENT_REJECTED
    if status < 400 or status >= 500 or status in {401, 402, 403, 408, 429}:
        return OutcomeKind.FAILURE
    return OutcomeKind.IGNORED


@pytest.mark.parametrize("client_credentials", [True, False])
def test_every_status_has_its_outcome(client_credentials: bool) -> None:
    for status in range(200, 600):
        outcome = outcome_of(status, [], NOW, client_credentials=client_credentials)
        assert outcome.kind is expected_kind(status, client_credentials), status


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_requests_at_fault_say_nothing_about_the_provider(status: int) -> None:
    assert outcome_of(status, pairs(retry_after="40"), NOW).kind is OutcomeKind.IGNORED


def test_long_errors_are_cut() -> None:
    assert len(failure("x" * 5000, error="y" * 5000).error) == 300
    assert len(outcome_of(500, [], NOW, error="y" * 5000).error) == 300


HEADER_NAMES = st.sampled_from(
    [b"retry-after"]
    + [
        (UNIFIED + name).encode()
        for name in ("status", "reset", "representative-claim", "5h-status", "5h-reset")
    ]
    + [f"anthropic-ratelimit-tokens-{name}".encode() for name in ("remaining", "reset")]
)
VALUES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"rejected", b"allowed", b"five_hour", b"seven_day_opus", b"0"]),
    st.floats().map(lambda f: repr(f).encode()),
    st.integers(min_value=-10, max_value=10**14).map(lambda i: str(i).encode()),
    st.datetimes().map(lambda d: d.isoformat().encode()),
    st.datetimes().map(lambda d: (d.isoformat() + "+14:00").encode()),
    st.datetimes(timezones=st.just(UTC)).map(lambda d: format_datetime(d, usegmt=True).encode()),
    st.text("MonTueJan 0123456789:,+-GMTZ", max_size=40).map(lambda t: t.encode()),
)


@settings(deadline=None)
@given(
    headers=st.lists(st.tuples(HEADER_NAMES, VALUES), max_size=8),
    status=st.sampled_from([429, 503, 529]),
    now=st.floats(min_value=0, max_value=4e9),
)
def test_whatever_the_headers_say_no_limit_is_past_or_over_eight_days(
    headers: list[tuple[bytes, bytes]], status: int, now: float
) -> None:
    outcome = outcome_of(status, headers, now)
    assert (outcome.kind is OutcomeKind.LIMIT) == bool(outcome.limits)
    assert all(now < limit.until <= now + MAX_NAMED for limit in outcome.limits)
    assert len({limit.scope for limit in outcome.limits}) == len(outcome.limits)
