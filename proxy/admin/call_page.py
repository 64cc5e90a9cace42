"""What the page of one call shows, made ready for its template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from providers.admin.phrases import milliseconds
from providers.models import Provider
from proxy.admin import charts, reproduce
from proxy.models import Attempt, RequestLog

Fact = tuple[str, Any]
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt. `style` colours its bar; `curl` is "" where it cannot be repeated."""

    attempt: Attempt
    bar: charts.Span
    style: str
    took: str
    begins: str
    body: str
    repairs: list[Repair]
    curl: str = ""


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair and what it has changed: places and sizes, never content."""

    name: str
    changes: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answering:
    """What the client has heard of the answer: from its first byte to the end."""

    bar: charts.Span
    begins: str
    took: str


@dataclass(frozen=True, slots=True)
class CallPage:
    """Everything on the page."""

    summary: str
    facts: list[Fact]
    tokens: list[Fact]
    steps: list[Step]
    whole: str
    answering: Answering | None
    curl: str


def call_page(call: RequestLog, base_url: str, *, with_providers: bool) -> CallPage:
    """The page of `call`. `with_providers`: this user may see how a provider is called."""
    attempts = list(call.attempts.all())
    known = {p.name: p for p in Provider.objects.all()} if with_providers else {}
    whole = max([call.duration_ms, *(a.started_ms + a.duration_ms for a in attempts)])
    spans = [(a.started_ms, a.duration_ms) for a in attempts]
    return CallPage(
        summary=_summary(call, attempts),
        facts=_facts(call),
        tokens=_tokens(call),
        steps=[
            _step(a, bar, call, known.get(a.provider))
            for a, bar in zip(attempts, charts.waterfall(spans, whole), strict=True)
        ],
        whole=milliseconds(whole),
        answering=_answering(call, whole),
        curl=reproduce.through_proxy(base_url, call),
    )


def _answering(call: RequestLog, whole: int) -> Answering | None:
    first = call.first_byte_ms
    if first is None:
        return None
    took = max(0, call.duration_ms - first)
    [bar] = charts.waterfall([(first, took)], whole)
    return Answering(bar, milliseconds(first), milliseconds(took))


def _summary(call: RequestLog, attempts: Sequence[Attempt]) -> str:
    """The call in one sentence."""
    asked = list(dict.fromkeys(a.provider for a in attempts if a.provider != call.provider))
    values = {
        "provider": call.provider,
        "others": ", ".join(asked),
        "outcome": call.get_outcome_display(),
        "status": call.status or NOTHING,
    }
    if not call.provider:
        return _("Nobody answered: %(outcome)s, status %(status)s.") % values
    fell_back = bool(asked and call.fell_back)
    if call.outcome == RequestLog.Outcome.ANSWERED:
        return (
            _("%(provider)s answered, after %(others)s had not.")
            if fell_back
            else _("%(provider)s answered.")
        ) % values
    return (
        _("%(provider)s, asked after %(others)s: %(outcome)s, status %(status)s.")
        if fell_back
        else _("%(provider)s: %(outcome)s, status %(status)s.")
    ) % values


def _facts(call: RequestLog) -> list[Fact]:
    moment = timezone.localtime(call.time).isoformat(sep=" ", timespec="milliseconds")
    sent = call.model_sent if call.model_sent != call.model else ""
    return [
        (_("Time"), moment),
        (_("Request id"), call.request_id),
        (_("Path"), call.path),
        (_("Model asked for"), call.model or NOTHING),
        (_("Model sent"), sent or _("the same")),
        (_("Status"), call.status or NOTHING),
        (_("Streamed"), _("yes") if call.stream else _("no")),
        (_("First byte"), milliseconds(call.first_byte_ms)),
        (_("Duration"), milliseconds(call.duration_ms)),
        (_("Bytes in"), f"{call.bytes_in:,}"),
        (_("Bytes out"), f"{call.bytes_out:,}"),
        (_("Token"), call.token or NOTHING),
        (_("Agent"), call.agent_id or NOTHING),
        (_("Hash of the body"), call.body_hash or NOTHING),
    ]


def _tokens(call: RequestLog) -> list[Fact]:
    counts = [
        (_("Input"), call.input_tokens),
        (_("Cache read"), call.cache_read_tokens),
        (_("Cache written"), call.cache_creation_tokens),
        (_("Output"), call.output_tokens),
    ]
    if all(count is None for _name, count in counts):
        return []
    by = _("this proxy: an estimate") if call.usage_estimated else _("the provider")
    return [
        *((name, NOTHING if count is None else f"{count:,}") for name, count in counts),
        (_("Counted by"), by),
    ]


def _step(attempt: Attempt, bar: charts.Span, call: RequestLog, provider: Provider | None) -> Step:
    skipped = attempt.kind == Attempt.Kind.SKIPPED
    return Step(
        attempt=attempt,
        bar=bar,
        style=_style(attempt),
        took=NOTHING if skipped else milliseconds(attempt.duration_ms),
        begins=milliseconds(attempt.started_ms),
        body=_body(attempt, call),
        repairs=_repairs(attempt.repairs),
        curl=reproduce.at_provider(provider, attempt, call) if provider and not skipped else "",
    )


def _style(attempt: Attempt) -> str:
    if attempt.kind == Attempt.Kind.SKIPPED:
        return "skipped"
    return "good" if attempt.status is not None and 200 <= attempt.status < 300 else "bad"


def _body(attempt: Attempt, call: RequestLog) -> str:
    """What became of the client's body on the way."""
    if attempt.unmodified:
        return _("Relayed unmodified: the very bytes that the client sent.")
    if attempt.body_hash and call.body_hash:
        return _("Sent changed: model name, repairs, or another wire format.")
    return ""


def _repairs(stored: Any) -> list[Repair]:
    """As far as the stored JSON has the expected shape."""
    if not isinstance(stored, list):
        return []
    return [
        Repair(str(entry.get("name", "")), list(entry.get("changes") or ()))
        for entry in stored
        if isinstance(entry, dict)
    ]
