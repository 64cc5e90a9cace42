"""Figures and times as people read them."""

from __future__ import annotations

import datetime

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext, ngettext

_UNITS = ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))


def compact(number: int) -> str:
    """`999`, `12.3 k`, `4.56 M`: three digits, for where there is no room."""
    for unit, letter in _UNITS:
        if number >= unit:
            return f"{float(f'{number / unit:.3g}'):g} {letter}"
    return str(number)


def span(seconds: float) -> str:
    """A duration in its largest sensible unit: `45 s`, `12 min`, `3 h 5 min`, `2 days`."""
    whole = max(0, round(seconds))
    if whole < 90:
        return gettext("%d s") % whole
    minutes = round(whole / 60)
    if minutes < 60:
        return gettext("%d min") % minutes
    hours, rest = divmod(minutes, 60)
    if hours < 24:
        return gettext("%(h)d h %(m)d min") % {"h": hours, "m": rest} if rest else f"{hours} h"
    days = round(hours / 24)
    return ngettext("%d day", "%d days", days) % days


def milliseconds(number: float | None) -> str:
    """`850 ms`, `2.4 s`; a dash for none."""
    if number is None:
        return "–"
    if number < 1000:
        return f"{number:.0f} ms"
    return f"{number / 1000:.1f} s" if number < 60_000 else span(number / 1000)


def percent(part: float, whole: float) -> str:
    """`98.2 %`, rounded so that 100 % means all of them and 0 % none; a dash of nothing."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.1f}".removesuffix(".0") + " %"


def clock(moment: float, now: float) -> str:
    """Epoch seconds as `14:35`, with the day when it is another one than at `now`."""
    then, today = _local(moment), _local(now).date()
    time = date_format(then, "H:i")
    return time if then.date() == today else f"{date_format(then, 'D j M')} {time}"


def _local(moment: float) -> datetime.datetime:
    return timezone.localtime(datetime.datetime.fromtimestamp(moment, datetime.UTC))
