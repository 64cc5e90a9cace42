"""Test connection: from the provider's form, saved or not, and as an action on the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import inlineformset_factory
from django.forms.formsets import DELETION_FIELD_NAME
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from providers.admin.forms import MappingFormSet, ProviderForm
from providers.fields import Undecryptable
from providers.loading import spec_of
from providers.models import ModelMapping, Provider
from providers.routing import ProviderSpec, is_glob, order_globs
from proxy.connection_test import ModelResult, test_providers

MAX_PROVIDERS = 10
CREDENTIAL_FIELD = "test_credential"
PART_HEADER = "x-ccf-part"
"""Sent by our script, which wants the results alone, without the page around them."""


@dataclass(frozen=True, slots=True)
class Tested:
    """One provider's results, or why there are none."""

    name: str
    results: Sequence[ModelResult] = ()
    problems: Sequence[str] = ()
    needs_credential: bool = False


def form_view(site: admin.AdminSite, request: HttpRequest, key: int | None = None) -> HttpResponse:
    """Test what is in the form. Nothing of it is saved; an empty key means the stored one."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    permission = "providers.change_provider" if key else "providers.add_provider"
    if not request.user.has_perm(permission):
        raise PermissionDenied
    stored = get_object_or_404(Provider, pk=key) if key else Provider()
    tested = _test_form(request, stored)
    part = "proxy/connection_results.html" if request.headers.get(PART_HEADER) else None
    return _results(site, request, [tested], template=part)


@admin.action(description=gettext_lazy("Test connection"), permissions=["change"])
def test_connection(
    modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Provider]
) -> HttpResponse:
    """Test stored providers, all at once."""
    credential = request.POST.get(CREDENTIAL_FIELD, "").strip()
    providers = list(queryset.prefetch_related("mappings")[:MAX_PROVIDERS])
    asked = [p for p in providers if not _obstacle(p, credential)]
    found = test_providers([(spec_of(p), _credential_for(p, credential)) for p in asked])
    results = {p.pk: results for p, results in zip(asked, found, strict=True)}
    for provider in asked:
        good = sum(result.ok for result in results[provider.pk])
        counts = {"good": good, "all": len(results[provider.pk])}
        message = _("Connection tested: %(good)d of %(all)d models answered.") % counts
        modeladmin.log_change(request, provider, message)
    tested = [
        Tested(p.name, results[p.pk]) if p.pk in results else _untested(p, credential)
        for p in providers
    ]
    hidden = [("action", "test_connection")]
    hidden += [(ACTION_CHECKBOX_NAME, str(provider.pk)) for provider in providers]
    return _results(modeladmin.admin_site, request, tested, hidden=hidden)


test_connection.__test__ = False  # type: ignore[attr-defined] # no test of pytest's


def _test_form(request: HttpRequest, provider: Provider) -> Tested:
    form = ProviderForm(request.POST, instance=provider)
    # A name that is missing or taken is no obstacle.
    problems = [
        f"{form[name].label if name in form.fields else ''}: {message}"
        for name, messages in form.errors.items()
        if name != "name"
        for message in messages
    ]
    name = provider.name or _("This provider")
    if problems:
        return Tested(name, problems=problems)
    credential = request.POST.get(CREDENTIAL_FIELD, "").strip()
    if _obstacle(provider, credential):
        return replace(_untested(provider, credential), name=name)
    spec = _with_mappings(spec_of(provider), _submitted_mappings(request, provider))
    [results] = test_providers([(spec, _credential_for(provider, credential))])
    return Tested(name, results)


def _submitted_mappings(request: HttpRequest, provider: Provider) -> dict[str, str]:
    """The rows of the form that are complete, whether or not they are stored."""
    factory = inlineformset_factory(
        Provider, ModelMapping, formset=MappingFormSet, fields=("source", "target"), extra=0
    )
    if "mappings-TOTAL_FORMS" not in request.POST:
        return {}
    formset = factory(request.POST, instance=provider, prefix="mappings")
    formset.is_valid()
    rows = [form.cleaned_data for form in formset.forms if hasattr(form, "cleaned_data")]
    return {
        row["source"]: row["target"]
        for row in rows
        if row.get("source") and row.get("target") and not row.get(DELETION_FIELD_NAME)
    }


def _with_mappings(spec: ProviderSpec, mappings: Mapping[str, str]) -> ProviderSpec:
    exact = {source: target for source, target in mappings.items() if not is_glob(source)}
    return replace(
        spec, exact_mappings=MappingProxyType(exact), glob_mappings=order_globs(mappings)
    )


def _obstacle(provider: Provider, credential: str) -> bool:
    return _unreadable(provider) or (_wants_credential(provider) and not credential)


def _untested(provider: Provider, credential: str) -> Tested:
    if _unreadable(provider):
        return Tested(provider.name, problems=[_("Its key cannot be decrypted. Enter it again.")])
    return Tested(provider.name, needs_credential=True)


def _unreadable(provider: Provider) -> bool:
    return any(isinstance(v, Undecryptable) for v in (provider.api_key, provider.extra_headers))


def _wants_credential(provider: Provider) -> bool:
    return provider.credentials == Provider.Credentials.CLIENT


def _credential_for(provider: Provider, credential: str) -> str:
    """A client's credential goes to nobody who has a key of their own."""
    return credential if _wants_credential(provider) else ""


def _results(
    site: admin.AdminSite,
    request: HttpRequest,
    tested: Sequence[Tested],
    *,
    template: str | None = None,
    hidden: Sequence[tuple[str, str]] = (),
) -> HttpResponse:
    context = {
        **site.each_context(request),
        "title": _("Test connection"),
        "opts": Provider._meta,
        "tested": tested,
        "hidden": hidden,
        "ask_for_credential": bool(hidden) and any(t.needs_credential for t in tested),
        "credential_field": CREDENTIAL_FIELD,
    }
    response = TemplateResponse(request, template or "proxy/connection_tested.html", context)
    response["cache-control"] = "no-store"
    return response
