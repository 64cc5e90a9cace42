"""The history: every call, and everything that was tried to answer it."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class RequestLog(models.Model):
    """One call. Written once, when it has ended; never holds keys or prompt text."""

    class Outcome(models.TextChoices):
        ANSWERED = "answered", _("answered")
        FAILED = "failed", _("failed")
        REFUSED = "refused", _("refused")
        BROKEN = "broken", _("broken off")
        CANCELLED = "cancelled", _("cancelled by the client")
        STOPPED = "stopped", _("cut off by a stop of the proxy")

    time = models.DateTimeField(_("time"))
    request_id = models.CharField(_("request id"), max_length=128, db_index=True)
    path = models.CharField(_("path"), max_length=200, default="/v1/messages")
    session_id = models.CharField(_("session"), max_length=128, blank=True, db_index=True)
    agent_id = models.CharField(_("agent"), max_length=128, blank=True)
    token = models.CharField(_("token"), max_length=100, blank=True)
    model = models.CharField(_("model asked for"), max_length=200, blank=True)
    model_sent = models.CharField(_("model sent"), max_length=200, blank=True)
    provider = models.CharField(
        _("answered by"), max_length=64, blank=True, help_text=_("Empty when nobody answered.")
    )
    fell_back = models.BooleanField(_("fell back"), default=False)
    stream = models.BooleanField(_("streamed"), default=False)
    status = models.PositiveSmallIntegerField(_("status"), null=True)
    outcome = models.CharField(_("outcome"), max_length=16, choices=Outcome.choices)
    error = models.CharField(_("error"), max_length=500, blank=True)
    first_byte_ms = models.PositiveIntegerField(_("first byte (ms)"), null=True)
    duration_ms = models.PositiveIntegerField(_("duration (ms)"))
    input_tokens = models.PositiveIntegerField(_("input tokens"), null=True)
    output_tokens = models.PositiveIntegerField(_("output tokens"), null=True)
    cache_read_tokens = models.PositiveIntegerField(_("cache read tokens"), null=True)
    cache_creation_tokens = models.PositiveIntegerField(_("cache creation tokens"), null=True)
    usage_estimated = models.BooleanField(_("tokens estimated"), default=False)
    body_hash = models.CharField(_("hash of the body"), max_length=16, blank=True)
    bytes_in = models.PositiveBigIntegerField(_("bytes in"), default=0)
    bytes_out = models.PositiveBigIntegerField(_("bytes out"), default=0)
    dropped = models.JSONField(
        _("fields left out"),
        default=dict,
        blank=True,
        help_text=_("What another wire format could not carry, counted."),
    )

    class Meta:
        ordering = ["-id"]
        # The history is read newest first. Its filters look at the first index alone, which grows
        # at its end; an index for each of them would cost a call a quarter of what its row costs.
        # Few calls are not answered, or not by the first provider: these have indexes of their own.
        indexes = [
            models.Index(
                fields=["time", "provider", "model", "token", "path"], name="call_by_time"
            ),
            models.Index(
                fields=["outcome", "time"],
                name="call_not_answered_time",
                condition=~models.Q(outcome="answered"),
            ),
            models.Index(
                fields=["time"], name="call_fell_back_time", condition=models.Q(fell_back=True)
            ),
            models.Index(
                fields=["time"],
                name="call_other_path_time",
                condition=~models.Q(path="/v1/messages")
                & ~models.Q(path="/v1/messages/count_tokens"),
            ),
        ]
        verbose_name = _("call")
        verbose_name_plural = _("request history")

    def __str__(self) -> str:
        return self.request_id


class Attempt(models.Model):
    """One try at one provider, or the reason why it was not tried."""

    class Kind(models.TextChoices):
        TRIED = "tried", _("tried")
        RETRIED = "retried", _("tried again")
        REPAIRED = "repaired", _("tried again, repaired")
        SKIPPED = "skipped", _("skipped")

    call = models.ForeignKey(RequestLog, models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField(_("no."))
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices, default=Kind.TRIED)
    provider = models.CharField(_("provider"), max_length=64)
    model = models.CharField(_("model"), max_length=200, blank=True)
    status = models.PositiveSmallIntegerField(_("status"), null=True)
    result = models.CharField(
        _("result"), max_length=32, help_text=_("The status, or what happened instead.")
    )
    error_type = models.CharField(_("error type"), max_length=64, blank=True)
    error_message = models.CharField(_("error message"), max_length=500, blank=True)
    started_ms = models.PositiveIntegerField(_("started (ms)"), default=0)
    duration_ms = models.PositiveIntegerField(_("milliseconds"), default=0)

    repairs = models.JSONField(
        _("repairs"),
        default=list,
        blank=True,
        help_text=_("What was mended before this try: places and sizes, no content."),
    )
    unmodified = models.BooleanField(
        _("relayed unmodified"), default=False, help_text=_("The body was sent as it came.")
    )
    body_hash = models.CharField(_("hash of the body sent"), max_length=16, blank=True)
    headers = models.JSONField(
        _("headers of the reply"),
        default=dict,
        blank=True,
        help_text=_("Rate limits, request ids and the like; never a credential."),
    )

    class Meta:
        ordering = ["number"]
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")

    def __str__(self) -> str:
        return f"{self.provider}={self.result}"


class HourlyFigures(models.Model):
    """What one hour amounts to at one provider: messages only, kept when their rows are pruned.

    A call belongs to the hour in which it began and to the provider that its row names, ""
    for those that nobody answered; an attempt belongs to the provider that was asked.
    """

    hour = models.DateTimeField(_("hour"))
    provider = models.CharField(_("provider"), max_length=64, blank=True)
    calls = models.PositiveIntegerField(_("calls"), default=0)
    fallbacks = models.PositiveIntegerField(_("fallbacks"), default=0)
    errors = models.PositiveIntegerField(_("errors"), default=0)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    failures = models.PositiveIntegerField(_("failed attempts"), default=0)
    input_tokens = models.PositiveBigIntegerField(_("input tokens"), default=0)
    output_tokens = models.PositiveBigIntegerField(_("output tokens"), default=0)
    cache_read_tokens = models.PositiveBigIntegerField(_("cache read tokens"), default=0)
    cache_creation_tokens = models.PositiveBigIntegerField(_("cache creation tokens"), default=0)

    class Meta:
        ordering = ["-hour", "provider"]
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "provider"], name="one_row_per_hour_and_provider"
            )
        ]
        verbose_name = verbose_name_plural = _("hourly figures")

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}h {self.provider}"
