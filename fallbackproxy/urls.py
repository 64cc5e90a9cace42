"""Every address that is served."""

from django.contrib import admin
from django.urls import include, path
from django.utils.translation import gettext_lazy as _

admin.site.site_header = admin.site.site_title = _("Fallback proxy")
admin.site.site_url = None  # "/" leads back here
admin.site.index_title = _("Configuration and history")

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("proxy.urls")),
]
