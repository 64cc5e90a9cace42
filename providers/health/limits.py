"""When a provider says that it will be back: the headers of a 429, 503 or 529.

Anthropic's per-minute limits: https://docs.anthropic.com/en/api/rate-limits#response-headers.
The `anthropic-ratelimit-unified-*` headers of subscriptions are not documented; as observed,
`-status` is the verdict, `-representative-claim` names the window behind it, and every
window (`5h`, `7d`, `7d_opus`, ...) has a `-status` and a `-reset` of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from providers.health.arithmetic import MAX_NAMED
from providers.health.rows import Scope

HeaderPairs = Sequence[tuple[bytes, bytes]]

UNIFIED = "anthropic-ratelimit-unified-"
PER_MINUTE = ("requests", "tokens", "input-tokens", "output-tokens")

_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?")
_WINDOW_STATUS = re.compile(UNIFIED + r"(\d{1,3}[hd](?:_[a-z0-9_]{1,32})?)-status")
_WINDOW = re.compile(r"(\d{1,3})([hd])(?:_([a-z0-9_]{1,32}))?")
_CLAIMS = {"five_hour": "5h", "seven_day": "7d"}
_UNITS = {"h": "hour", "d": "day"}
_ONE_MODEL = frozenset({"oi", "overage_included"})
"""A window of one model, which its name does not tell."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit that says when it ends. `reason` is for people: "7-day Opus limit"."""

    scope: Scope
    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a 429, 503 or 529 says: its limits, or, without any, what the failure counts for."""

    scope: Scope
    limits: tuple[Limit, ...] = ()


def read_refusal(status: int, headers: HeaderPairs, now: float) -> Refusal:
    """Read the headers of a 429, 503 or 529.

    The windows of a subscription come first, then `retry-after`, then the per-minute limits
    (their resets say when they are full again, which is later than need be). A time that is
    past, unreadable or more than `MAX_NAMED` ahead counts as not given.
    """
    fields = _fields(headers)
    windows = _rejected_windows(fields, now)
    limits = _window_limits(windows, now)
    if limits:
        return Refusal(limits[0].scope, limits)
    scope, reason = _plain(status)
    if windows:
        window = next(iter(windows))
        scope, reason = _scope(window), _reason(window)
    until = _retry_after(fields.get("retry-after", ""), now) or _exhausted_until(fields, now)
    return Refusal(scope, () if until is None else (Limit(scope, until, reason),))


def _fields(headers: HeaderPairs) -> dict[str, str]:
    """The headers as text; the first of several with one name."""
    fields: dict[str, str] = {}
    for name, value in headers:
        fields.setdefault(name.decode("latin-1").lower(), value.decode("latin-1").strip())
    return fields


def _plain(status: int) -> tuple[Scope, str]:
    """Scope and reason of a refusal that names no window."""
    if status == 429:
        return Scope.MODEL, "rate limit (this model)"
    return Scope.PROVIDER, f"overloaded ({status})" if status == 529 else f"unavailable ({status})"


def _rejected_windows(fields: Mapping[str, str], now: float) -> dict[str, list[str]]:
    """The windows that are used up, with the times at which they are said to reset.

    The one that stands for the verdict comes first if its name says anything, else last. Where
    the verdict is not a rejection the windows are beside the point: used-up ones may be covered
    by extra usage, and the reset is that of a window with room left.
    """
    verdict = fields.get(UNIFIED + "status", "").lower()
    if verdict not in ("", "rejected"):
        return {}
    claim = _window_of(fields.get(UNIFIED + "representative-claim", ""))
    reset = fields.get(UNIFIED + "reset", "")
    claimed = [(claim, reset)] if verdict or _instant(reset, now) else []
    rejected = [
        (match[1], fields.get(f"{UNIFIED}{match[1]}-reset", ""))
        for name, value in fields.items()
        if value.lower() == "rejected" and (match := _WINDOW_STATUS.fullmatch(name))
    ]
    windows: dict[str, list[str]] = {}
    for window, time in claimed + rejected if _WINDOW.fullmatch(claim) else rejected + claimed:
        windows.setdefault(window, []).append(time)
    return windows


def _window_of(claim: str) -> str:
    """The window that a claim speaks of: "seven_day_opus" is "7d_opus"; others as they are."""
    claim = claim.lower()
    for words, window in _CLAIMS.items():
        if claim == words or claim.startswith(words + "_"):
            return window + claim.removeprefix(words)
    return claim


def _scope(window: str) -> Scope:
    match = _WINDOW.fullmatch(window)
    return Scope.MODEL if match and match[3] else Scope.CREDENTIAL


def _reason(window: str) -> str:
    match = _WINDOW.fullmatch(window)
    if not match:
        return "usage limit"
    length = f"{match[1]}-{_UNITS[match[2]]}"
    if match[3] in _ONE_MODEL:
        return f"{length} limit of this model"
    of_model = f" {match[3].replace('_', ' ').capitalize()}" if match[3] else ""
    return f"{length}{of_model} limit"


def _window_limits(windows: Mapping[str, list[str]], now: float) -> tuple[Limit, ...]:
    """The latest limit of each scope, longest first."""
    latest: dict[Scope, Limit] = {}
    for window, resets in windows.items():
        for until in filter(None, (_instant(reset, now) for reset in resets)):
            limit = Limit(_scope(window), until, _reason(window))
            known = latest.get(limit.scope)
            if known is None or known.until < until:
                latest[limit.scope] = limit
    return tuple(sorted(latest.values(), key=lambda limit: -limit.until))


def _exhausted_until(fields: Mapping[str, str], now: float) -> float | None:
    """When the last of the used-up per-minute limits is full again."""
    return max(_exhausted_resets(fields, now), default=None)


def _exhausted_resets(fields: Mapping[str, str], now: float) -> Iterator[float]:
    for name in PER_MINUTE:
        remaining = fields.get(f"anthropic-ratelimit-{name}-remaining", "")
        until = _instant(fields.get(f"anthropic-ratelimit-{name}-reset", ""), now)
        if until is not None and _NUMBER.fullmatch(remaining) and float(remaining) == 0:
            yield until


def _retry_after(value: str, now: float) -> float | None:
    """`retry-after`, in seconds or as an HTTP date (RFC 9110, section 10.2.3)."""
    if _NUMBER.fullmatch(value):
        return _trusted(now + float(value), now)
    return _instant(value, now)


def _instant(value: str, now: float) -> float | None:
    """A moment in epoch seconds, RFC 3339 or as an HTTP date; None if it cannot be trusted."""
    if _NUMBER.fullmatch(value):
        return _trusted(float(value), now)
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(value)
            return _trusted(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp(), now)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None


def _trusted(until: float, now: float) -> float | None:
    return until if now < until <= now + MAX_NAMED else None
