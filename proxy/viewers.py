"""The group "viewer": may look at the history and the configuration, and see no secret."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import DEFAULT_DB_ALIAS

GROUP = "viewer"
PERMISSIONS = {
    "proxy": ("view_requestlog", "view_attempt"),
    "providers": ("view_provider", "view_modelmapping", "view_learnedfact", "view_proxysettings"),
}


def create_viewer_group(
    sender: AppConfig, using: str = DEFAULT_DB_ALIAS, apps: Any = installed, **kwargs: Any
) -> None:
    """After a migration: make the group, unless there is one. From then on it is the operator's.

    Not in a migration of ours, because permissions come to be after the
    migrations have run; and those of the other app perhaps after this signal.
    """
    try:
        Group = apps.get_model("auth", "Group")
        Permission = apps.get_model("auth", "Permission")
        for label in PERMISSIONS:
            apps.get_app_config(label)
    except LookupError:
        return  # some app is not migrated yet: there will be another signal
    group, created = Group.objects.using(using).get_or_create(name=GROUP)
    if not created:
        return
    for label, codenames in PERMISSIONS.items():
        create_permissions(installed.get_app_config(label), verbosity=0, using=using, apps=apps)
        group.permissions.add(
            *Permission.objects.using(using).filter(
                content_type__app_label=label, codename__in=codenames
            )
        )
