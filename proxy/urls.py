"""The API paths. They are served by `fallbackproxy.handler.ApiHandler`, past the middleware."""

from __future__ import annotations

from django.urls import path, re_path

from proxy import views

urlpatterns = [
    path("v1/messages", views.messages),
    path("v1/v1/messages", views.messages),
    path("v1/messages/count_tokens", views.count_tokens),
    path("v1/v1/messages/count_tokens", views.count_tokens),
    re_path(r"^v1/(?:v1/)?models(?:/[^/]+)?/?$", views.models),
    path("v1/ccf/status", views.status),
    path("api/hello", views.greet),
    path("api/event_logging/batch", views.greet),
    path("healthz", views.healthz),
    path("metrics", views.metrics),
    re_path(r"^(?:v1|api)/", views.anything_else),
    path("", views.greet),
]
