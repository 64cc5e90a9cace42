from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class ProxyConfig(AppConfig):
    name = "proxy"
    verbose_name = _("History")

    def ready(self) -> None:
        from providers.models import PROFILE_CHECKS
        from proxy.profile_check import profile_problems
        from proxy.viewers import create_viewer_group

        PROFILE_CHECKS.append(profile_problems)
        post_migrate.connect(create_viewer_group, sender=self)


class AdminPagesConfig(AdminConfig):
    """Django's admin, with a front page and a navigation of ours."""

    default_site = "proxy.site.ProxySite"
