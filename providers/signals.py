"""Every saved or deleted row of the configuration reaches the workers."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save

from providers.models import (
    AccessToken,
    ConfigurationVersion,
    ModelMapping,
    Provider,
    ProxySettings,
)


def bump(sender: type, **kwargs: Any) -> None:
    ConfigurationVersion.bump()


def connect() -> None:
    for model in (Provider, ModelMapping, AccessToken, ProxySettings):
        for signal in (post_save, post_delete):
            signal.connect(bump, sender=model, dispatch_uid=f"{model.__name__}-{id(signal)}")
