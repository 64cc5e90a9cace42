"""Every hour adds up beside the rows, and outlives them."""

from __future__ import annotations

import datetime
import importlib
import threading

import pytest
from django.apps import apps
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from providers.models import ProxySettings
from proxy.history import retention
from proxy.history.records import CallRecord
from proxy.history.rollup import hour_of
from proxy.history.rows import write_rows
from proxy.models import HourlyFigures, RequestLog
from proxy.usage import Usage
from tests.calls import NOW, Tried, finished


def figures(provider: str, time: float = NOW) -> dict[str, int]:
    row = HourlyFigures.objects.filter(hour=hour_of(time), provider=provider).values().first()
    return {name: count for name, count in (row or {}).items() if isinstance(count, int)}


@pytest.mark.django_db
def test_a_call_is_added_to_the_hour_of_who_answered_and_of_whoever_was_asked() -> None:
    write_rows([finished(("a", 429), ("b", 200)), finished(("a", 200)), finished(("b", 200))])
    first, second = figures("a"), figures("b")
    assert (first["calls"], first["fallbacks"], first["attempts"], first["failures"]) == (
        1,
        0,
        2,
        1,
    )
    assert (second["calls"], second["fallbacks"]) == (2, 1)
    assert (second["attempts"], second["failures"]) == (2, 0)
    assert (second["input_tokens"], second["output_tokens"]) == (20, 40)
    assert (second["cache_read_tokens"], second["cache_creation_tokens"]) == (600, 8)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("tried", "outcome", "errors", "failures"),
    [
        ((("a", 200),), "answered", 0, 0),
        ((("a", 200),), "cancelled", 0, 0),
        ((("a", 200),), "broken", 1, 1),
        ((("a", 200),), "stopped", 1, 0),
        ((("a", 400),), "refused", 1, 0),
        ((("a", 404),), "refused", 1, 0),
        ((("a", 413),), "refused", 1, 0),
        ((("a", 401),), "refused", 1, 1),
        ((("a", 529),), "answered", 0, 1),
        ((("a", None), ("a", 200)), "answered", 0, 0),
    ],
)
def test_errors_are_calls_and_failures_are_attempts(
    tried: tuple[Tried, ...], outcome: str, errors: int, failures: int
) -> None:
    write_rows([finished(*tried, outcome=outcome)])
    found = figures("a")
    assert (found["errors"], found["failures"]) == (errors, failures)
    assert found["attempts"] == 1


@pytest.mark.django_db
def test_a_call_that_nobody_answered_is_nobodys() -> None:
    write_rows([finished(("a", 500), outcome="failed")])
    assert (figures("")["calls"], figures("")["errors"]) == (1, 1)
    assert figures("a")["calls"] == 0 and figures("a")["failures"] == 1


@pytest.mark.django_db
@pytest.mark.parametrize("outcome", ["cancelled", "stopped"])
def test_an_attempt_that_was_cancelled_says_nothing_about_the_provider(outcome: str) -> None:
    record = finished(("a", 200), outcome=outcome)
    record.attempts[0].result, record.attempts[0].status = outcome, None
    write_rows([record])
    assert figures("a")["attempts"] == figures("a")["failures"] == 0


@pytest.mark.django_db
def test_only_messages_count() -> None:
    write_rows([finished(("a", 200), path="/v1/messages/count_tokens")])
    assert RequestLog.objects.count() == 1
    assert not HourlyFigures.objects.exists()


@pytest.mark.django_db
def test_a_call_belongs_to_the_hour_in_which_it_began() -> None:
    late = NOW // 3600 * 3600 + 3599.9
    write_rows([finished(("a", 200), time=late), finished(("a", 200), time=late + 0.2)])
    assert figures("a", late)["calls"] == figures("a", late + 0.2)["calls"] == 1
    assert HourlyFigures.objects.count() == 2


@pytest.mark.django_db
def test_the_rows_and_their_figures_are_written_together_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(records: list[CallRecord]) -> None:
        raise ValueError("no")

    monkeypatch.setattr("proxy.history.rows.add_figures", fail)
    with pytest.raises(ValueError, match="no"):
        write_rows([finished(("a", 200))])
    assert not RequestLog.objects.exists()


@pytest.mark.django_db
def test_a_batch_costs_two_statements_more_however_large_it_is() -> None:
    write_rows([finished(("a", 200), ("b", 200))])

    def statements(count: int) -> int:
        with CaptureQueriesContext(connection) as captured:
            write_rows([finished(("a", 429), ("b", 200)) for _ in range(count)])
        return len([q for q in captured if "proxy_hourlyfigures" in q["sql"]])

    assert statements(1) == statements(200) == 2


@pytest.mark.django_db(transaction=True, available_apps=["providers", "proxy"])
def test_two_writers_at_once_lose_nothing() -> None:
    def write() -> None:
        for _ in range(5):
            write_rows([finished(("a", 429), ("b", 200)), finished(("c", 200), ("a", 200))])
        connections.close_all()

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert figures("a")["calls"] == 15
    assert figures("b")["calls"] == 15
    assert figures("a")["attempts"] == 30


# --- what is kept -----------------------------------------------------------


@pytest.mark.django_db
def test_what_is_older_than_the_settings_say_is_deleted_but_its_figures_stay() -> None:
    now = timezone.now().timestamp()
    write_rows([finished(("a", 200), time=now - days * 86400) for days in (40, 31, 29, 0)])
    assert retention.prune_expired() is False
    assert RequestLog.objects.count() == 2
    assert sum(HourlyFigures.objects.values_list("calls", flat=True)) == 4


@pytest.mark.django_db
def test_zero_days_keeps_everything() -> None:
    ProxySettings(retention_days=0).save()
    write_rows([finished(("a", 200), time=NOW - 5000 * 86400)])
    assert retention.prune_expired() is False
    assert RequestLog.objects.count() == 1


@pytest.mark.django_db
def test_a_batch_is_deleted_at_a_time_the_oldest_first() -> None:
    now = timezone.now().timestamp()
    write_rows([finished(("a", 200), time=now - days * 86400) for days in (33, 35, 34)])
    assert retention.prune_expired(batch=2) is True
    [left] = RequestLog.objects.all()
    assert timezone.now() - left.time < datetime.timedelta(days=33.5)
    assert retention.prune_expired(batch=2) is False
    assert not RequestLog.objects.exists()


# --- calls that were there before ------------------------------------------------


def all_figures() -> list[tuple[object, ...]]:
    names = [field.name for field in HourlyFigures._meta.fields if field.name != "id"]
    return sorted(HourlyFigures.objects.values_list(*names), key=str)


def backfill() -> None:
    migration = importlib.import_module("proxy.migrations.0006_figures_of_old_calls")
    migration.add_old_figures(apps, None)


def older_calls() -> list[CallRecord]:
    """Of every kind that counts in another way, over some hours."""
    kinds: list[tuple[tuple[Tried, ...], str]] = [
        ((("a", 200),), "answered"),
        ((("a", 429), ("b", 200)), "answered"),
        ((("a", None), ("b", 200)), "broken"),
        ((("a", 400),), "refused"),
        ((("a", 401),), "refused"),
        ((("a", 500), ("b", 529)), "failed"),
        ((("a", 200),), "stopped"),
    ]
    records = [
        finished(*tried, outcome=outcome, time=NOW + number * 1700.0)
        for number, (tried, outcome) in enumerate(kinds * 3)
    ]
    records[3].path = "/v1/messages/count_tokens"
    records[4].attempts[0].result = "cancelled"
    records[6].attempts[0].result = "stopped"
    records[5].usage = Usage()
    return records


@pytest.mark.django_db
def test_older_calls_are_added_up_as_new_ones_are() -> None:
    write_rows(older_calls())
    counted = all_figures()
    assert len(counted) > 10
    HourlyFigures.objects.all().delete()
    backfill()
    assert all_figures() == counted


@pytest.mark.django_db
def test_hours_that_are_being_counted_are_not_counted_again() -> None:
    write_rows(older_calls())
    counted = all_figures()
    HourlyFigures.objects.filter(hour__lt=hour_of(NOW + 6 * 3600)).delete()
    for _ in range(2):
        backfill()
        assert all_figures() == counted
