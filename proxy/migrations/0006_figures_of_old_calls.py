"""The hourly figures of calls that were written before there were any."""

import datetime

from django.db import migrations
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce, TruncHour

MESSAGES = "/v1/messages"
ERRORS = ("failed", "refused", "broken", "stopped")
FAULTS_OF_REQUESTS = (400, 404, 405, 409, 413, 415, 422)
NO_ANSWER_DUE = ("", "cancelled", "stopped", "local")
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")
BATCH = 1_000


def add_old_figures(apps, schema_editor):
    """Whole hours, before the first one that has figures: the database adds them up.

    The hour in which the figures began stays as it is: half of it has been counted.
    """
    calls = apps.get_model("proxy", "RequestLog").objects.filter(path=MESSAGES)
    attempts = apps.get_model("proxy", "Attempt").objects.filter(call__path=MESSAGES)
    hourly = apps.get_model("proxy", "HourlyFigures")
    first = hourly.objects.order_by("hour").values_list("hour", flat=True).first()
    if first is not None:
        calls, attempts = calls.filter(time__lt=first), attempts.filter(call__time__lt=first)
    rows = {}
    for key, counts in (*_of_calls(calls), *_of_attempts(attempts)):
        row = rows.setdefault(key, hourly(hour=key[0], provider=key[1]))
        for name, count in counts.items():
            setattr(row, name, getattr(row, name) + count)
    hourly.objects.bulk_create(rows.values(), batch_size=BATCH)


def _of_calls(calls):
    tokens = {f"sum_{name}": Coalesce(Sum(name), 0) for name in TOKENS}
    found = (
        calls.order_by()
        .annotate(hour=TruncHour("time", tzinfo=datetime.UTC))
        .values("hour", "provider")
        .annotate(
            calls=Count("pk"),
            fallbacks=Count("pk", filter=Q(fell_back=True)),
            errors=Count("pk", filter=Q(outcome__in=ERRORS)),
            failures=Count("pk", filter=Q(outcome="broken")),
            **tokens,
        )
    )
    for row in found.iterator():
        counts = {name: row[name] for name in ("calls", "fallbacks", "errors", "failures")}
        counts |= {name: row[f"sum_{name}"] for name in TOKENS}
        yield (row["hour"], row["provider"]), counts


def _of_attempts(attempts):
    fine = Q(status__gte=200, status__lt=300) | Q(status__in=FAULTS_OF_REQUESTS)
    found = (
        attempts.exclude(kind="skipped")
        .exclude(result__in=NO_ANSWER_DUE)
        .order_by()
        .annotate(hour=TruncHour("call__time", tzinfo=datetime.UTC), asked=F("provider"))
        .values("hour", "asked")
        .annotate(attempts=Count("pk"), fine=Count("pk", filter=fine))
    )
    for row in found.iterator():
        failures = row["attempts"] - row["fine"]
        yield (row["hour"], row["asked"]), {"attempts": row["attempts"], "failures": failures}


class Migration(migrations.Migration):
    dependencies = [("proxy", "0005_filter_indexes")]

    operations = [migrations.RunPython(add_old_figures, migrations.RunPython.noop)]
