"""Deleting old calls from the history."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from proxy.models import Attempt, RequestLog

pytestmark = pytest.mark.django_db


def prune(**options: Any) -> str:
    out = io.StringIO()
    call_command("prune_requests", stdout=out, **options)
    return out.getvalue().strip()


def calls(*ages: float) -> None:
    """One call with one attempt for each age in days."""
    for age in ages:
        call = RequestLog.objects.create(
            time=timezone.now() - timedelta(days=age), request_id=f"{age} days", duration_ms=1
        )
        Attempt.objects.create(call=call, number=1, provider="a", result="200")


def left() -> list[str]:
    return sorted(RequestLog.objects.values_list("request_id", flat=True))


def test_older_calls_go_with_their_attempts() -> None:
    calls(1, 29, 31, 400)
    assert prune(days=30) == "2 calls deleted."
    assert left() == ["1 days", "29 days"]
    assert Attempt.objects.count() == 2


def test_zero_days_is_the_whole_history() -> None:
    calls(0, 1)
    assert prune(days=0) == "2 calls deleted."
    assert left() == []


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 6])
def test_no_batch_is_bigger_than_asked_for_and_none_is_forgotten(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls(*range(10, 15), 1)
    sizes: list[int] = []
    delete = RequestLog.objects.all().delete.__func__  # type: ignore[attr-defined]

    def counted(queryset: Any) -> Any:
        sizes.append(queryset.count())
        return delete(queryset)

    monkeypatch.setattr("django.db.models.query.QuerySet.delete", counted)
    assert prune(days=5, batch=batch) == "5 calls deleted."
    assert max(sizes) <= batch
    assert left() == ["1 days"]


def test_one_call_is_singular() -> None:
    calls(9)
    assert prune(days=5) == "1 call deleted."


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"days": -1}, "--days must not be negative"),
        ({"days": 10**9}, "--days: that is before the calendar begins"),
        ({"days": 10**12}, "--days: that is before the calendar begins"),
        ({"days": 1, "batch": 0}, "--batch must be at least 1"),
    ],
)
def test_a_number_that_makes_no_sense_is_one_line(options: dict[str, int], error: str) -> None:
    calls(1)
    with pytest.raises(CommandError) as raised:
        prune(**options)
    assert str(raised.value) == error
    assert left() == ["1 days"]
