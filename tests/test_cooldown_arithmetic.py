"""The circuit breaker's arithmetic: rows, events and the time."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.health import (
    MAX_NAMED,
    Cause,
    EventKind,
    HealthEvent,
    HealthKey,
    HealthRow,
    apply,
    claim,
    closed_until,
    is_spent,
    probe_due,
    tier_cooldown,
)
from providers.routing import Settings

NOW = 1_760_000_000.0
KEY = HealthKey(1)
DEFAULTS = Settings()
HOUR, DAY = 3600.0, 86400.0


def failed(at: float, *, lone: bool = False) -> HealthEvent:
    return HealthEvent(KEY, EventKind.FAILURE, at, reason="529", lone=lone)


def limited(at: float, until: float) -> HealthEvent:
    return HealthEvent(KEY, EventKind.LIMIT, at, until=until, reason="5-hour limit")


def succeeded(at: float, started: float | None = None) -> HealthEvent:
    return HealthEvent(KEY, EventKind.SUCCESS, at, started=at if started is None else started)


def after(
    *events: HealthEvent, settings: Settings = DEFAULTS, now: float | None = None
) -> HealthRow:
    row: HealthRow | None = None
    for event in events:
        row = apply(row, event, settings, max(event.at, now or 0.0))
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 30),
        (4, 30),
        (5, 60),
        (9, 60),
        (10, 300),
        (11, 300),
        (10_000, 300),
    ],
)
def test_the_tiers(failures: int, seconds: float) -> None:
    assert tier_cooldown(failures, DEFAULTS) == seconds
    assert tier_cooldown(failures, Settings(max_cooldown=45)) == min(seconds, 45)
    assert tier_cooldown(failures, Settings(max_cooldown=3600)) == seconds
    assert tier_cooldown(failures, Settings(max_cooldown=0)) == 0


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, None), (2, None), (3, 30), (4, 30), (5, 60), (10, 300)]
)
def test_failures_in_a_row_close_from_the_last_one_on(failures: int, seconds: float | None) -> None:
    row = after(*(failed(NOW + i) for i in range(failures)))
    last = NOW + failures - 1
    expected = None if seconds is None else last + seconds
    assert closed_until(row, DEFAULTS, last) == expected
    assert row.failures == failures
    if expected is not None:
        assert row.reason == f"{failures} failures in a row (529)"
        assert closed_until(row, DEFAULTS, expected) is None


def test_a_lone_failure_counts_and_closes_nothing() -> None:
    row = after(*(failed(NOW + i, lone=True) for i in range(12)))
    assert (row.failures, row.until) == (12, None)


def test_a_lower_maximum_shortens_a_cooldown_that_is_running() -> None:
    row = after(*(failed(NOW) for _ in range(10)))
    assert closed_until(row, DEFAULTS, NOW) == NOW + 300
    assert closed_until(row, Settings(max_cooldown=20), NOW) == NOW + 20
    assert closed_until(row, Settings(max_cooldown=0), NOW) is None


def test_a_maximum_of_zero_switches_named_limits_off_too() -> None:
    assert closed_until(after(limited(NOW, NOW + HOUR)), Settings(max_cooldown=0), NOW) is None


def test_a_named_limit_holds_whatever_the_maximum() -> None:
    row = after(limited(NOW, NOW + 5 * DAY))
    assert closed_until(row, Settings(max_cooldown=30), NOW + 4 * DAY) == NOW + 5 * DAY


def test_the_later_of_two_limits_holds_in_either_order() -> None:
    for first, second in permutations([limited(NOW, NOW + 60), limited(NOW + 1, NOW + HOUR)]):
        assert after(first, second, now=NOW + 1).until == NOW + HOUR


def test_a_limit_of_more_than_eight_days_closes_nothing() -> None:
    assert after(limited(NOW, NOW + MAX_NAMED)).until == NOW + MAX_NAMED
    assert after(limited(NOW, NOW + MAX_NAMED + 1)).until is None


def test_failures_do_not_shorten_a_limit() -> None:
    row = after(limited(NOW, NOW + HOUR), *(failed(NOW + i) for i in range(1, 6)))
    assert (row.until, row.cause, row.reason) == (NOW + HOUR, Cause.LIMIT, "5-hour limit")


def test_a_success_resets_everything() -> None:
    row = after(*(failed(NOW) for _ in range(10)), succeeded(NOW + 1))
    assert (row.failures, row.until, row.reason) == (0, None, "")
    row = after(limited(NOW, NOW + HOUR), succeeded(NOW + 9, started=NOW + 5))
    assert (row.until, row.cause) == (None, None)


def test_an_answer_that_was_under_way_does_not_disprove_a_limit() -> None:
    row = after(failed(NOW - 2), limited(NOW, NOW + HOUR), succeeded(NOW + 30, started=NOW - 30))
    assert (row.until, row.failures) == (NOW + HOUR, 0)


@pytest.mark.parametrize(
    ("events", "failures"),
    [
        pytest.param([failed(NOW), failed(NOW + 1), failed(NOW + 2)], 3, id="failures"),
        pytest.param([failed(NOW), succeeded(NOW + 5)], 0, id="failure, then success"),
        pytest.param([succeeded(NOW), failed(NOW + 5)], 1, id="success, then failure"),
        pytest.param([failed(NOW), HealthEvent(KEY, EventKind.RESET, NOW + 1)], 0, id="reset"),
    ],
)
def test_events_of_two_workers_may_be_written_in_any_order(
    events: list[HealthEvent], failures: int
) -> None:
    rows = {after(*order, now=NOW + 9)._replace(reason="") for order in permutations(events)}
    assert {row.failures for row in rows} == {failures}
    assert len({row.until for row in rows}) == 1


@settings(deadline=None)
@given(st.lists(st.floats(min_value=0, max_value=20), min_size=1, max_size=15), st.randoms())
def test_no_failure_is_lost_in_whatever_order_they_are_written(times: list[float], random) -> None:  # type: ignore[no-untyped-def]
    events = [failed(NOW + time) for time in times]
    in_order = after(*sorted(events, key=lambda event: event.at), now=NOW + 20)
    random.shuffle(events)
    shuffled = after(*events, now=NOW + 20)
    assert shuffled.failures == len(times)
    assert shuffled.last_failure == max(event.at for event in events)
    assert shuffled.until == in_order.until


def test_a_limit_that_a_later_call_has_disproved_closes_nothing() -> None:
    row = after(succeeded(NOW + 9, started=NOW + 5), limited(NOW, NOW + HOUR), now=NOW + 10)
    assert row.until is None


@pytest.mark.parametrize(
    ("row", "longest"),
    [
        pytest.param(HealthRow(KEY, until=NOW + 1e12), 0, id="an end without a beginning"),
        pytest.param(HealthRow(KEY, since=NOW, until=NOW + 1e12), 0, id="no cause"),
        pytest.param(
            HealthRow(KEY, since=NOW, until=NOW + 1e12, cause=Cause.FAILURES), 300, id="tier"
        ),
        pytest.param(
            HealthRow(KEY, since=NOW, until=NOW + 1e12, cause=Cause.LIMIT), MAX_NAMED, id="limit"
        ),
        pytest.param(
            HealthRow(KEY, since=NOW, until=NOW + 1e12, cause=Cause.OPERATOR),
            MAX_NAMED,
            id="operator",
        ),
        pytest.param(
            HealthRow(KEY, since=NOW, until=float("nan"), cause=Cause.LIMIT),
            MAX_NAMED,
            id="not a number",
        ),
        pytest.param(
            HealthRow(KEY, since=NOW + 1e9, until=NOW + 1e12, cause=Cause.LIMIT), 0, id="future"
        ),
    ],
)
def test_a_row_edited_by_hand_closes_no_longer_than_its_cause_permits(
    row: HealthRow, longest: float
) -> None:
    until = closed_until(row, DEFAULTS, NOW)
    assert until == (NOW + longest if longest else None)


STAMPS = st.none() | st.floats(min_value=NOW - 1e9, max_value=NOW + 1e9)
ROWS = st.builds(
    HealthRow,
    st.just(KEY),
    failures=st.integers(-5, 50),
    last_failure=STAMPS,
    last_success=STAMPS,
    cause=st.none() | st.sampled_from(Cause),
    since=STAMPS,
    until=STAMPS,
    proven_at=STAMPS,
    probe_at=STAMPS,
    probe_until=STAMPS,
)


@settings(deadline=None)
@given(ROWS, st.floats(min_value=0, max_value=3600))
def test_no_row_closes_for_longer_than_permitted_or_survives_a_success(
    row: HealthRow, maximum: float
) -> None:
    settings = Settings(max_cooldown=maximum)
    until = closed_until(row, settings, NOW)
    longest = maximum if row.cause is Cause.FAILURES else MAX_NAMED
    assert until is None or NOW < until <= NOW + longest
    success = apply(row, succeeded(NOW), settings, NOW)
    # Stamps of other machines may be ahead by the permitted skew; then their failure came later.
    if row.cause is not Cause.OPERATOR and (row.last_failure or 0) <= NOW:
        assert closed_until(success, settings, NOW) is None
        assert success.failures == 0


def test_a_clock_that_jumped_ahead_and_back_leaves_nothing_behind() -> None:
    ahead = NOW + 30 * DAY
    row = after(*(failed(ahead) for _ in range(5)), limited(ahead, ahead + HOUR))
    assert closed_until(row, DEFAULTS, NOW) is None
    row = apply(row, succeeded(NOW), DEFAULTS, NOW)
    assert (row.failures, row.until, row.last_failure) == (0, None, None)


def test_an_event_from_the_future_is_taken_as_of_now() -> None:
    row = apply(None, failed(NOW + DAY), DEFAULTS, NOW)
    assert row.last_failure == NOW


def closed_row(hours: float = 5.0) -> HealthRow:
    return after(limited(NOW, NOW + hours * HOUR))


@pytest.mark.parametrize(
    ("seconds", "due"), [(0, False), (299, False), (300, True), (900, True), (5 * HOUR, False)]
)
def test_the_first_probe_comes_one_interval_after_closing(seconds: float, due: bool) -> None:
    assert probe_due(closed_row(), DEFAULTS, NOW + seconds) is due


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        pytest.param(after(limited(NOW, NOW + 300)), DEFAULTS, id="cooldown of one interval"),
        pytest.param(closed_row(), Settings(probe_interval=0), id="switched off"),
        pytest.param(closed_row(), Settings(max_cooldown=0), id="no cooldowns at all"),
        pytest.param(HealthRow(KEY), DEFAULTS, id="open"),
        pytest.param(
            after(HealthEvent(KEY, EventKind.COOL_DOWN, NOW, until=NOW + DAY, reason="holiday")),
            DEFAULTS,
            id="closed by the operator",
        ),
    ],
)
def test_what_is_never_probed(row: HealthRow, settings: Settings) -> None:
    assert not any(probe_due(row, settings, NOW + s) for s in range(0, 7200, 60))


def test_restating_a_limit_does_not_put_the_probe_off() -> None:
    row = after(limited(NOW, NOW + HOUR), limited(NOW + 200, NOW + 2 * HOUR))
    assert probe_due(row, DEFAULTS, NOW + 300)


def test_only_one_worker_gets_the_lease_until_it_runs_out() -> None:
    claimed = claim(closed_row(), "a", NOW + 300)
    assert (claimed.probe_owner, claimed.probe_until) == ("a", NOW + 330)
    assert not probe_due(claimed, DEFAULTS, NOW + 329)
    assert probe_due(claimed, DEFAULTS, NOW + 330)


def test_a_probe_that_has_begun_keeps_the_lease_for_as_long_as_a_call_may_take() -> None:
    event = HealthEvent(KEY, EventKind.PROBE_STARTED, NOW + 301, owner="a")
    row = apply(claim(closed_row(), "a", NOW + 300), event, DEFAULTS, NOW + 301)
    assert not probe_due(row, DEFAULTS, NOW + 1200)
    assert probe_due(row, DEFAULTS, NOW + 1201)


def test_a_lease_far_in_the_future_is_nobodys() -> None:
    assert probe_due(closed_row()._replace(probe_until=NOW + DAY), DEFAULTS, NOW + 300)


def test_a_failed_probe_leaves_the_end_and_the_count_and_waits_another_interval() -> None:
    claimed = claim(closed_row(), "a", NOW + 300)
    event = HealthEvent(KEY, EventKind.PROBE_FAILED, NOW + 310, owner="a", reason="429")
    row = apply(claimed, event, DEFAULTS, NOW + 310)
    assert (row.until, row.failures) == (claimed.until, claimed.failures)
    assert (row.probe_until, row.last_error) == (None, "429")
    assert [probe_due(row, DEFAULTS, NOW + s) for s in (310, 609, 610)] == [False, False, True]


def test_a_probe_that_is_given_back_is_due_at_once() -> None:
    claimed = claim(closed_row(), "a", NOW + 300)
    event = HealthEvent(KEY, EventKind.PROBE_RETURNED, NOW + 301, owner="a")
    assert probe_due(apply(claimed, event, DEFAULTS, NOW + 301), DEFAULTS, NOW + 301)


def test_a_lease_is_not_returned_by_anyone_but_its_owner() -> None:
    claimed = claim(closed_row(), "b", NOW + 300)
    for kind in (EventKind.PROBE_RETURNED, EventKind.PROBE_FAILED, EventKind.SUCCESS):
        late = HealthEvent(KEY, kind, NOW - 1, started=NOW - 1, owner="a")
        assert apply(claimed, late, DEFAULTS, NOW + 301).probe_owner == "b"


def test_an_operators_cooldown_ends_by_time_or_reset_and_not_by_a_success() -> None:
    closed = HealthEvent(KEY, EventKind.COOL_DOWN, NOW, until=NOW + 99 * DAY, reason="holiday")
    row = after(closed, succeeded(NOW + 1))
    assert closed_until(row, DEFAULTS, NOW + 1) == NOW + MAX_NAMED
    assert after(closed, HealthEvent(KEY, EventKind.RESET, NOW + 1)).until is None


def test_rows_of_one_credential_are_spent_when_long_quiet_and_a_providers_never() -> None:
    key = HealthKey(1, "c0ffee")
    row = apply(None, HealthEvent(key, EventKind.FAILURE, NOW), DEFAULTS, NOW)
    assert not is_spent(row, DEFAULTS, NOW + DAY - 1)
    assert is_spent(row, DEFAULTS, NOW + DAY)
    assert not is_spent(row._replace(key=KEY), DEFAULTS, NOW + 99 * DAY)
    limit = HealthEvent(key, EventKind.LIMIT, NOW, until=NOW + 7 * DAY)
    assert not is_spent(apply(row, limit, DEFAULTS, NOW), DEFAULTS, NOW + 6 * DAY)


def test_every_change_is_a_new_version() -> None:
    assert after(failed(NOW), failed(NOW), succeeded(NOW)).version == 3
    assert claim(closed_row(), "a", NOW + 300).version == closed_row().version + 1
