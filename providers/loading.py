"""Reads the configuration from the database into a `Snapshot`."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import NamedTuple

from django.db import connection, transaction

from providers.fields import Undecryptable
from providers.models import AccessToken, ConfigurationVersion, Provider, ProxySettings
from providers.routing import (
    Credentials,
    ProviderSpec,
    Settings,
    Snapshot,
    TimeLimits,
    TokenSpec,
    WireFormat,
    is_glob,
    order_globs,
)

logger = logging.getLogger("ccf.config")


class Versions(NamedTuple):
    """The numbers of the one row of `ConfigurationVersion`."""

    number: int = 0
    health: int = 0
    knowledge: int = 0
    avoidance: int = 0


_VERSIONS = (
    f"SELECT {', '.join(Versions._fields)} FROM {ConfigurationVersion._meta.db_table} WHERE id = 1"  # noqa: S608
)


def current_versions() -> Versions:
    """The newest numbers. Workers ask again and again: without a model it costs a fifth."""
    with connection.cursor() as cursor:
        cursor.execute(_VERSIONS)
        row = cursor.fetchone()
    return Versions(*row) if row else Versions()


def load_snapshot() -> Snapshot:
    """The whole configuration. A provider whose secrets cannot be decrypted is left out, loudly."""
    with transaction.atomic():
        # The version first: what changes while we read makes us read again.
        version = current_versions().number
        providers = list(Provider.objects.for_routing())
        tokens = AccessToken.objects.filter(enabled=True)
        known = {bytes.fromhex(t.digest): TokenSpec(t.pk, t.note) for t in tokens}
        settings = load_settings()
        translates = Provider.objects.exclude(format=WireFormat.ANTHROPIC).exists()
    return Snapshot(
        version=version,
        providers=tuple(spec_of(p) for p in providers if _readable(p)),
        tokens=MappingProxyType(known),
        settings=settings,
        translates=translates,
    )


def load_settings() -> Settings:
    """What the operator has tuned."""
    settings = ProxySettings.load()
    return Settings(
        max_cooldown=settings.max_cooldown,
        probe_interval=settings.probe_interval,
        patience=settings.patience,
        call_budget=settings.call_budget,
        repairs=settings.repairs,
        disabled_repairs=frozenset(settings.disabled_repairs),
        log_error_messages=settings.log_error_messages,
    )


def _readable(provider: Provider) -> bool:
    if not any(isinstance(v, Undecryptable) for v in (provider.api_key, provider.extra_headers)):
        return True
    logger.error(
        "config.undecryptable",
        extra={
            "fields": {
                "provider": provider.name,
                "message": "its key cannot be decrypted with ENCRYPTION_KEY; it is left out "
                "until the key is entered again",
            }
        },
    )
    return False


def spec_of(provider: Provider) -> ProviderSpec:
    """A row as the relay sees it. The row may be unsaved."""
    mappings = {m.source: m.target for m in provider.mappings.all()} if provider.pk else {}
    return ProviderSpec(
        id=provider.pk or 0,
        name=provider.name,
        base_url=provider.base_url.strip(),
        format=WireFormat(provider.format),
        credentials=Credentials(provider.credentials),
        api_key=provider.api_key,
        auth_header=provider.auth_header.lower(),
        extra_headers=tuple((n.lower(), v) for n, v in provider.extra_headers.items()),
        retries=provider.retries,
        retry_first=provider.retry_first,
        return_client_401=provider.on_client_401 == Provider.OnClient401.RETURN,
        limits=TimeLimits(
            connect=provider.connect_limit,
            first_byte=provider.first_byte_limit,
            first_byte_stream=provider.first_byte_stream_limit,
            idle=provider.idle_limit,
        ),
        context_window=provider.context_window,
        max_output_tokens=provider.max_output_tokens,
        profile=MappingProxyType({**_limits_as_switches(provider), **provider.profile}),
        exact_mappings=MappingProxyType({s: t for s, t in mappings.items() if not is_glob(s)}),
        glob_mappings=order_globs(mappings),
    )


def _limits_as_switches(provider: Provider) -> dict[str, int]:
    """Formats and repairs read what a provider can take from its profile."""
    limits = {
        "context_window": provider.context_window,
        "max_output_tokens": provider.max_output_tokens,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}
