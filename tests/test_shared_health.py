"""Provider health between workers: what one has seen closes a provider in all."""

from __future__ import annotations

import pytest

from providers.health import (
    CANCELLED,
    SUCCESS,
    Caller,
    Decision,
    EventKind,
    HealthKey,
    HealthTable,
    Outcome,
    failure,
    outcome_of,
)
from providers.health.ledger import MAX_PENDING
from providers.routing import Credentials, ProviderSpec, Settings, Target
from tests.shared_health import SharedRows, flush, watch

NOW = 1_760_000_000.0
HOUR, DAY = 3600.0, 86400.0
DEFAULTS = Settings()
DOWN = failure("529", status=529)
CALLER = Caller("alice", "session", "")
TARGETS = [
    Target(ProviderSpec(1, "primary", "https://one.example", credentials=Credentials.CLIENT), "m"),
    Target(ProviderSpec(2, "second", "https://two.example"), "m"),
]
ALICES = HealthKey(1, "alice")


@pytest.fixture
def shared() -> SharedRows:
    return SharedRows(DEFAULTS)


def admit(table: HealthTable, now: float = NOW) -> list[Decision]:
    return table.admit(TARGETS, CALLER, DEFAULTS, now)


def tell(
    table: HealthTable, outcome: Outcome, *, index: int = 0, times: int = 1, now: float = NOW
) -> None:
    for _ in range(times):
        table.record(admit(table, now)[index], CALLER, outcome, DEFAULTS, now)


def five_hours() -> Outcome:
    return outcome_of(
        429,
        [
            (b"anthropic-ratelimit-unified-status", b"rejected"),
            (b"anthropic-ratelimit-unified-representative-claim", b"five_hour"),
            (b"anthropic-ratelimit-unified-reset", str(int(NOW + 5 * HOUR)).encode()),
        ],
        NOW,
    )


def test_a_provider_opened_in_one_worker_is_closed_in_the_others(shared: SharedRows) -> None:
    first, second = HealthTable("a"), HealthTable("b")
    tell(first, five_hours())
    flush(first, shared, NOW)
    assert admit(second)[0].allowed
    watch(second, shared, NOW)
    assert not admit(second)[0].allowed
    assert admit(second)[0].reason == "5-hour limit"


def test_failures_of_two_workers_that_write_at_once_add_up(shared: SharedRows) -> None:
    first, second = HealthTable("a"), HealthTable("b")
    tell(first, DOWN, times=2)
    tell(second, DOWN)
    flush(first, shared, NOW)
    flush(second, shared, NOW)
    assert shared.rows[HealthKey(1)].failures == 3
    for table in (first, second):
        watch(table, shared, NOW)
        assert not admit(table)[0].allowed


def test_a_restart_forgets_nothing(shared: SharedRows) -> None:
    first = HealthTable("a")
    tell(first, five_hours())
    tell(first, DOWN, index=1, times=2)
    flush(first, shared, NOW)
    again = HealthTable("a2")
    watch(again, shared, NOW + 60)
    assert not admit(again, NOW + 60)[0].allowed
    assert again.state_of(2, DEFAULTS, NOW + 60).failures == 2


def test_loading_keeps_what_is_not_written_yet(shared: SharedRows) -> None:
    table = HealthTable()
    tell(table, DOWN, times=3)
    table.load(shared.read(), DEFAULTS, NOW, table.mark)
    assert not admit(table)[0].allowed
    table.drain_changes()
    table.load(shared.read(), DEFAULTS, NOW, table.mark)
    assert not admit(table)[0].allowed


def test_unwritten_failures_count_on_top_of_what_others_wrote(shared: SharedRows) -> None:
    first, second = HealthTable("a"), HealthTable("b")
    tell(first, DOWN, times=2)
    flush(first, shared, NOW)
    tell(second, DOWN)
    watch(second, shared, NOW)
    watch(second, shared, NOW)
    assert second.state_of(1, DEFAULTS, NOW).failures == 3


def test_what_was_written_is_not_counted_again(shared: SharedRows) -> None:
    table = HealthTable()
    tell(table, DOWN, times=2)
    flush(table, shared, NOW)
    watch(table, shared, NOW)
    flush(table, shared, NOW)
    assert table.state_of(1, DEFAULTS, NOW).failures == shared.rows[HealthKey(1)].failures == 2


def test_what_could_not_be_written_is_written_the_next_time(shared: SharedRows) -> None:
    table = HealthTable()
    tell(table, DOWN)
    lost = table.drain_changes()
    table.restore_changes()
    tell(table, DOWN)
    assert table.drain_changes()[:1] == lost
    table.restore_changes()
    flush(table, shared, NOW)
    assert shared.rows[HealthKey(1)].failures == 2
    assert table.drain_changes() == []


def test_what_happens_during_the_write_is_left_for_the_next(shared: SharedRows) -> None:
    table = HealthTable()
    tell(table, DOWN)
    events = table.drain_changes()
    tell(table, DOWN)
    table.confirm(shared.write(events, NOW), DEFAULTS, NOW)
    assert table.state_of(1, DEFAULTS, NOW).failures == 2
    flush(table, shared, NOW)
    assert shared.rows[HealthKey(1)].failures == 2


def test_rows_read_before_a_write_do_not_undo_it(shared: SharedRows) -> None:
    table = HealthTable()
    mark, rows = table.mark, shared.read()
    tell(table, five_hours())
    flush(table, shared, NOW)
    table.load(rows, DEFAULTS, NOW, mark)
    assert not admit(table)[0].allowed


def test_rows_read_after_another_workers_write_win_over_our_own_older_one(
    shared: SharedRows,
) -> None:
    first, second = HealthTable("a"), HealthTable("b")
    tell(first, DOWN)
    mark = first.mark
    written = shared.write(first.drain_changes(), NOW)
    tell(second, DOWN, times=2)
    flush(second, shared, NOW)
    rows = shared.read()
    first.confirm(written, DEFAULTS, NOW)
    first.load(rows, DEFAULTS, NOW, mark)
    assert first.state_of(1, DEFAULTS, NOW).failures == 3


def test_rows_that_were_deleted_are_forgotten(shared: SharedRows) -> None:
    table = HealthTable()
    tell(table, five_hours())
    tell(table, DOWN, index=1, times=3)
    flush(table, shared, NOW)
    shared.rows.clear()
    watch(table, shared, NOW)
    assert [d.allowed for d in admit(table)] == [True, True]


def test_rows_long_quiet_are_not_loaded(shared: SharedRows) -> None:
    table = HealthTable()
    tell(table, five_hours())
    flush(table, shared, NOW)
    later = NOW + 2 * DAY
    watch(table, shared, later)
    assert table.state_of(1, DEFAULTS, later).limits == ()
    assert 1 not in table._ledger.narrow


def test_a_database_that_is_away_costs_only_the_oldest_events(shared: SharedRows) -> None:
    table = HealthTable()
    tell(table, DOWN, times=MAX_PENDING // 2)
    handed_out = table.drain_changes()
    tell(table, DOWN, times=MAX_PENDING)
    table.confirm(shared.write(handed_out, NOW), DEFAULTS, NOW)
    assert len(table.drain_changes()) == MAX_PENDING
    assert not admit(table)[0].allowed


def probing_pair(shared: SharedRows) -> tuple[HealthTable, HealthTable, float]:
    """Two workers that have both met a limit whose first probe is due."""
    tables = HealthTable("a"), HealthTable("b")
    tell(tables[0], five_hours())
    flush(tables[0], shared, NOW)
    due = NOW + 300
    for table in tables:
        watch(table, shared, due)
        assert not admit(table, due)[0].allowed
    return (*tables, due)


def test_of_two_workers_one_gets_to_probe(shared: SharedRows) -> None:
    first, second, due = probing_pair(shared)
    watch(first, shared, due)
    watch(second, shared, due)
    assert [admit(table, due)[0].probe for table in (first, second)] == [True, False]


def test_a_lease_that_is_not_used_goes_to_the_next_worker(shared: SharedRows) -> None:
    first, second, due = probing_pair(shared)
    watch(first, shared, due)
    watch(second, shared, due + 30)
    assert [admit(table, due + 30)[0].probe for table in (first, second)] == [False, True]


def test_a_probe_under_way_keeps_the_other_workers_out(shared: SharedRows) -> None:
    first, second, due = probing_pair(shared)
    watch(first, shared, due)
    assert admit(first, due + 20)[0].probe
    flush(first, shared, due + 20)
    watch(second, shared, due + 600)
    assert not admit(second, due + 600)[0].probe


def test_a_probe_of_a_worker_that_died_is_given_to_another_in_the_end(shared: SharedRows) -> None:
    first, second, due = probing_pair(shared)
    watch(first, shared, due)
    assert admit(first, due)[0].probe
    flush(first, shared, due)
    watch(second, shared, due + 902)
    assert admit(second, due + 902)[0].probe


def test_a_failed_probe_keeps_all_workers_waiting_for_another_interval(shared: SharedRows) -> None:
    first, second, due = probing_pair(shared)
    watch(first, shared, due)
    tell(first, DOWN, now=due)
    flush(first, shared, due)
    for later, probes in ((due + 299, False), (due + 300, True)):
        watch(second, shared, later)
        assert admit(second, later)[0].probe is probes


@pytest.mark.parametrize("end", [SUCCESS, DOWN, CANCELLED])
def test_a_probe_that_outlasts_its_cooldown_keeps_the_next_one_to_itself(
    shared: SharedRows, end: Outcome
) -> None:
    first, second, due = probing_pair(shared)
    watch(first, shared, due)
    probe = admit(first, due)[0]
    second.reset(1, DEFAULTS, due)
    for table in (first, second):
        flush(table, shared, due)
    watch(second, shared, due)
    tell(second, five_hours(), now=due + 1)
    flush(second, shared, due + 1)
    again = due + 301
    admit(second, again)
    watch(second, shared, again)
    assert not admit(second, again)[0].allowed
    first.record(probe, CALLER, end, DEFAULTS, again)
    flush(first, shared, again)
    watch(second, shared, again + 300)
    assert admit(second, again + 300)[0].probe


def test_a_probe_that_is_released_may_be_done_by_another_worker(shared: SharedRows) -> None:
    first, second, due = probing_pair(shared)
    watch(first, shared, due)
    first.release(admit(first, due)[0])
    flush(first, shared, due)
    watch(second, shared, due)
    assert admit(second, due)[0].probe


def test_a_probe_that_succeeds_reopens_the_provider_in_all_workers(shared: SharedRows) -> None:
    first, second, due = probing_pair(shared)
    watch(first, shared, due)
    tell(first, SUCCESS, now=due)
    flush(first, shared, due)
    watch(second, shared, due)
    assert admit(second, due)[0].allowed
    assert shared.rows[ALICES].probe_until is None


def test_credentials_are_stored_as_the_hash_they_came_as(shared: SharedRows) -> None:
    table = HealthTable()
    tell(table, five_hours())
    (event,) = table.drain_changes()
    assert (event.key, event.kind) == (ALICES, EventKind.LIMIT)


def test_a_lease_that_ran_out_goes_to_the_worker_that_has_the_calls(shared: SharedRows) -> None:
    idle, busy, due = probing_pair(shared)
    watch(idle, shared, due)
    later = due + 31
    assert not admit(busy, later)[0].probe
    watch(idle, shared, later)
    watch(busy, shared, later)
    assert admit(busy, later)[0].probe


def test_a_worker_without_recent_calls_claims_a_lease_that_nobody_else_wants(
    shared: SharedRows,
) -> None:
    idle, _, due = probing_pair(shared)
    watch(idle, shared, due)
    for later in (due + 32, due + 64, due + 96):
        watch(idle, shared, later)
    assert admit(idle, due + 97)[0].probe


def test_a_worker_that_has_long_been_idle_writes_no_more_claims(shared: SharedRows) -> None:
    idle, _, due = probing_pair(shared)
    watch(idle, shared, due)
    version = shared.rows[ALICES].version
    watch(idle, shared, due + 3700)
    assert shared.rows[ALICES].version == version
    admit(idle, due + 3701)
    watch(idle, shared, due + 3701)
    assert admit(idle, due + 3701)[0].probe
