"""The configuration: who may ask, and who can answer."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from providers import routing
from providers.fields import (
    EncryptedJSONField,
    EncryptedTextField,
    NamesField,
    Undecryptable,
)
from providers.validation import (
    base_url_problem,
    header_name_problem,
    headers_problem,
    is_header_value,
)

PROFILE_CHECKS: list[Callable[[Mapping[str, Any]], list[str]]] = []
"""What knows a dialect adds its check of a profile here: it returns the problems, one text each."""

TOKEN_PREFIX = "sk-ccf-"  # noqa: S105 (a prefix)


class ConfigurationVersion(models.Model):
    """One row whose numbers grow with every change: workers poll it.

    `number` counts changes of the configuration, `health` those of the providers' health,
    `knowledge` those of what was learned about them, `avoidance` those of what conversations avoid.
    """

    number = models.PositiveBigIntegerField(default=0)
    health = models.PositiveBigIntegerField(default=0)
    knowledge = models.PositiveBigIntegerField(default=0)
    avoidance = models.PositiveBigIntegerField(default=0)

    class Meta:
        verbose_name = _("configuration version")

    def __str__(self) -> str:
        return str(self.number)

    @classmethod
    def bump(cls, counter: str = "number") -> None:
        """Tell every worker to read again what `counter` counts."""
        if not cls.objects.filter(pk=1).update(**{counter: F(counter) + 1}):
            cls.objects.get_or_create(pk=1, defaults={counter: 1})


class ProviderQuerySet(models.QuerySet["Provider"]):
    def for_routing(self) -> ProviderQuerySet:
        """Enabled providers in their order, mappings fetched along."""
        return self.filter(enabled=True).order_by("position", "pk").prefetch_related("mappings")


class Provider(models.Model):
    """Somebody who can answer a call."""

    class WireFormat(models.TextChoices):
        ANTHROPIC = routing.WireFormat.ANTHROPIC.value, _("Anthropic Messages")
        OPENAI = routing.WireFormat.OPENAI.value, _("OpenAI Chat Completions")

    class Credentials(models.TextChoices):
        CLIENT = routing.Credentials.CLIENT.value, _("the client's own")
        OWN = routing.Credentials.OWN.value, _("the key below")

    class OnClient401(models.TextChoices):
        NEXT = "next", _("ask the next provider")
        RETURN = "return", _("return it to the client")

    position = models.PositiveIntegerField(_("order"), default=0, db_index=True)
    name = models.CharField(
        _("name"),
        max_length=64,
        unique=True,
        help_text=_("Shown in the history and in the x-ccf-provider header."),
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    base_url = models.CharField(
        _("base URL"),
        max_length=500,
        help_text=_("A root (https://api.anthropic.com), a versioned root or the full endpoint."),
    )
    format = models.CharField(
        _("wire format"), max_length=16, choices=WireFormat.choices, default=WireFormat.ANTHROPIC
    )
    credentials = models.CharField(
        _("credentials"),
        max_length=16,
        choices=Credentials.choices,
        default=Credentials.OWN,
        help_text=_("The client's own credentials go only to providers that say so here."),
    )
    api_key = EncryptedTextField(_("API key"), blank=True, default="")
    auth_header = models.CharField(
        _("auth header"),
        max_length=64,
        default="x-api-key",
        help_text=_("x-api-key, Authorization (sent as Bearer), or any other name."),
    )
    extra_headers = EncryptedJSONField(
        _("extra headers"),
        blank=True,
        default=dict,
        help_text=_('Sent with every request, for example {"X-Title": "Claude Code"}.'),
    )
    profile = models.JSONField(
        _("profile"),
        blank=True,
        default=dict,
        help_text=_("Switches of this provider's dialect; see the documentation."),
    )
    context_window = models.PositiveIntegerField(
        _("context window"),
        null=True,
        blank=True,
        help_text=_("Tokens. A call that does not fit is not sent here. Empty: unknown."),
    )
    max_output_tokens = models.PositiveIntegerField(
        _("maximum output"),
        null=True,
        blank=True,
        help_text=_("Tokens. A larger max_tokens is lowered to it. Empty: unknown."),
    )
    retries = models.PositiveSmallIntegerField(
        _("retries"),
        default=0,
        validators=[MaxValueValidator(10)],
        help_text=_("After a 5xx or a network error: 0.5 s later, then doubling."),
    )
    retry_first = models.BooleanField(
        _("retry before falling over"),
        default=False,
        help_text=_("Otherwise retries are made only when no other provider is left."),
    )
    on_client_401 = models.CharField(
        _("when it rejects the client's credentials"),
        max_length=8,
        choices=OnClient401.choices,
        default=OnClient401.NEXT,
    )
    connect_limit = models.FloatField(
        _("connect limit"), default=10, validators=[MinValueValidator(0.1)], help_text=_("Seconds.")
    )
    first_byte_stream_limit = models.FloatField(
        _("first byte limit, streaming"),
        default=120,
        validators=[MinValueValidator(0.1)],
        help_text=_("Seconds until the first content; pings do not count."),
    )
    first_byte_limit = models.FloatField(
        _("first byte limit, not streaming"),
        default=600,
        validators=[MinValueValidator(0.1)],
        help_text=_("Seconds until the reply begins."),
    )
    idle_limit = models.FloatField(
        _("idle limit"),
        default=120,
        validators=[MinValueValidator(0.1)],
        help_text=_("Seconds of silence after the first byte."),
    )

    objects = ProviderQuerySet.as_manager()

    class Meta:
        ordering = ["position", "pk"]
        verbose_name = _("provider")
        verbose_name_plural = _("providers")

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Form errors, each at its field."""
        errors = {
            "name": self._name_problem(),
            # An empty field has been reported as such already.
            "base_url": base_url_problem(self.base_url) if self.base_url else None,
            "auth_header": self.auth_header and header_name_problem(self.auth_header),
            "extra_headers": headers_problem(self.extra_headers),
            "profile": self._profile_problems(),
            "api_key": self._key_problem(),
        }
        found = {field: problem for field, problem in errors.items() if problem}
        if found:
            raise ValidationError(found)

    def _name_problem(self) -> Any:
        if not self.name.isprintable() or self.name != self.name.strip():
            return _("Use printable characters, with no space at the ends.")
        return None

    def _profile_problems(self) -> Any:
        if not isinstance(self.profile, dict):
            return _("A JSON object is needed.")
        return [problem for check in PROFILE_CHECKS for problem in check(self.profile)]

    def _key_problem(self) -> Any:
        if self.credentials == self.Credentials.CLIENT:
            return None
        if isinstance(self.api_key, Undecryptable):
            return _("The stored key cannot be decrypted with ENCRYPTION_KEY. Enter it again.")
        if not self.api_key and not self.extra_headers:
            return _("A provider that does not use the client's credentials needs a key.")
        if not is_header_value(self.api_key):
            return _("A key may only hold printable ASCII characters.")
        return None


class ProviderHealth(models.Model):
    """Health of a provider, or of one credential or model there, shared by all workers.

    One row is a `health.HealthRow`; times are epoch seconds. `credential` is a hash.
    """

    provider = models.ForeignKey(Provider, models.CASCADE, related_name="health")
    credential = models.CharField(_("credential"), max_length=16, blank=True)
    model = models.CharField(_("model"), max_length=200, blank=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    last_failure = models.FloatField(_("last failure"), null=True)
    last_success = models.FloatField(_("last success"), null=True)
    last_error = models.CharField(_("last error"), max_length=300, blank=True)
    cause = models.CharField(max_length=16, blank=True)
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    since = models.FloatField(null=True)
    until = models.FloatField(_("cooling down until"), null=True)
    proven_at = models.FloatField(null=True)
    probe_at = models.FloatField(null=True)
    probe_owner = models.CharField(max_length=64, blank=True)
    probe_until = models.FloatField(null=True)
    reply = models.TextField(blank=True)
    version = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "credential", "model"], name="one_health_row_per_key"
            )
        ]
        verbose_name = _("provider health")
        verbose_name_plural = _("provider health")

    def __str__(self) -> str:
        return f"{self.provider_id} {self.credential} {self.model}".strip()


class AvoidedProvider(models.Model):
    """A provider that one conversation stays away from, because its stream died there.

    One row is a `health.Avoided`; `conversation` is a hash.
    """

    provider = models.ForeignKey(Provider, models.CASCADE, related_name="+")
    conversation = models.CharField(max_length=32)
    until = models.FloatField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "conversation"], name="one_avoidance_per_conversation"
            )
        ]

    def __str__(self) -> str:
        return f"{self.provider_id} {self.conversation}"


class LearnedFact(models.Model):
    """A switch of a provider's profile that a repair has found out, for one of its models."""

    provider = models.ForeignKey(Provider, models.CASCADE, related_name="facts")
    model = models.CharField(_("model"), max_length=200)
    key = models.CharField(_("switch"), max_length=64)
    value = models.JSONField(_("value"))
    repair = models.CharField(_("found out by"), max_length=64)
    learned_at = models.DateTimeField(_("learned"), auto_now=True)
    expires = models.FloatField(_("expires"))

    class Meta:
        ordering = ["provider", "model", "key"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "model", "key"], name="one_fact_per_switch_and_model"
            )
        ]
        verbose_name = _("learned fact")
        verbose_name_plural = _("learned facts")

    def __str__(self) -> str:
        return f"{self.model}: {self.key}"


class SignatureOrigin(models.Model):
    """Which provider has signed a thinking block: a short hash, no content."""

    digest = models.CharField(max_length=16, unique=True)
    provider = models.ForeignKey(Provider, models.CASCADE, related_name="+")

    def __str__(self) -> str:
        return self.digest


class ModelMapping(models.Model):
    """What a model is called at one provider."""

    provider = models.ForeignKey(Provider, models.CASCADE, related_name="mappings")
    source = models.CharField(
        _("model asked for"), max_length=200, help_text=_("A model, or a pattern: claude-opus-*, *")
    )
    target = models.CharField(_("model sent"), max_length=200)

    class Meta:
        ordering = ["source"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "source"],
                name="one_mapping_per_source",
                violation_error_message=_("This provider already maps that model."),
            )
        ]
        verbose_name = _("model mapping")
        verbose_name_plural = _("model mappings")

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


class AccessToken(models.Model):
    """A client's key to the proxy. Only its hash is kept."""

    note = models.CharField(_("note"), max_length=100, help_text=_("Who or what uses it."))
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(_("ends in"), max_length=8, blank=True, editable=False)
    enabled = models.BooleanField(_("enabled"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    plain: str = ""
    """The token itself, only on the very object that it was generated for."""

    class Meta:
        ordering = ["-created_at", "-pk"]
        verbose_name = _("client token")
        verbose_name_plural = _("client tokens")

    def __str__(self) -> str:
        return self.note

    @classmethod
    def issue(cls, note: str) -> tuple[AccessToken, str]:
        """A new token: the row, and the token itself, which is not kept anywhere."""
        row = cls(note=note)
        row.generate()
        row.save()
        return row, row.plain

    def generate(self) -> None:
        """Give this row a new token: it is in `plain` until the object is gone."""
        self.plain = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self.digest, self.hint = token_digest(self.plain), self.plain[-4:]


class ProxySettings(models.Model):
    """What an operator tunes: one row."""

    max_cooldown = models.PositiveIntegerField(
        _("maximum cooldown"),
        default=300,
        help_text=_("Seconds. 0 switches cooldowns off altogether."),
    )
    probe_interval = models.PositiveIntegerField(
        _("probe interval"),
        default=300,
        validators=[MinValueValidator(1)],
        help_text=_("Seconds between trial requests to a provider that is cooling down."),
    )
    patience = models.PositiveIntegerField(
        _("patience"),
        default=0,
        help_text=_(
            "Longest retry-after, in seconds, that is waited for when nobody else is left."
        ),
    )
    call_budget = models.PositiveIntegerField(
        _("call budget"),
        default=280,
        validators=[MinValueValidator(1)],
        help_text=_("Seconds after which no further attempt is started."),
    )
    repairs = models.BooleanField(
        _("repair requests"),
        default=True,
        help_text=_("Mend requests that a provider refuses for a reason that can be mended."),
    )
    disabled_repairs = NamesField(
        _("repairs switched off"), default=list, blank=True, help_text=_("Their names.")
    )
    log_error_messages = models.BooleanField(
        _("keep error messages"),
        default=True,
        help_text=_("Store what a failing provider said, keys redacted, 500 characters."),
    )
    retention_days = models.PositiveIntegerField(
        _("keep the history for"),
        default=30,
        validators=[MaxValueValidator(36_500)],
        help_text=_(
            "Days. Older calls are deleted once an hour; the hourly figures behind the charts "
            "stay. 0 keeps everything for ever."
        ),
    )

    class Meta:
        verbose_name = verbose_name_plural = _("settings")
        permissions = [
            ("transfer_configuration", _("Can import and export the whole configuration"))
        ]

    def __str__(self) -> str:
        return str(_("Settings"))

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.pk = 1
        super().save(*args, **kwargs)

    @classmethod
    def load(cls) -> ProxySettings:
        """The row, or the defaults where none was saved yet."""
        return cls.objects.filter(pk=1).first() or cls(pk=1)


def token_digest(token: str) -> str:
    """SHA-256 of a client token, in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def save_order(providers: list[int]) -> None:
    """Put the providers with these keys in this order."""
    with transaction.atomic():
        for position, key in enumerate(providers):
            Provider.objects.filter(pk=key).update(position=position)
        ConfigurationVersion.bump()
