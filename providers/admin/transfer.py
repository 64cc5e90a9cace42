"""Import and export of the configuration in the admin, with a preview before anything changes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from providers.fields import Undecryptable, decrypt, encrypt
from providers.models import ProxySettings
from providers.transfer.configuration import (
    apply_import,
    export_configuration,
    plan_import,
    undecryptable_providers,
)
from providers.transfer.document import InvalidDocument, parse
from providers.transfer.planning import Plan

PERMISSION = "providers.transfer_configuration"
MAX_BYTES = 1024 * 1024
PREVIEW_SECONDS = 900.0
"""How long a preview may be confirmed."""

_KINDS = {"add": "ccf-good", "remove": "ccf-bad", "change": "ccf-warn"}


class ImportForm(forms.Form):
    file = forms.FileField(label=gettext_lazy("File"), required=False)
    text = forms.CharField(
        label=gettext_lazy("or its text"),
        required=False,
        max_length=MAX_BYTES,
        widget=forms.Textarea(
            attrs={"rows": 8, "class": "vLargeTextField code", "spellcheck": "false"}
        ),
    )
    replace = forms.BooleanField(
        label=gettext_lazy("Remove providers and tokens that are not in it"),
        required=False,
        help_text=gettext_lazy("Each kind only if it has such a section; the primary stays."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"label_suffix": "", **kwargs})

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file is not None and file.size > MAX_BYTES:
            raise forms.ValidationError(_("A configuration is no larger than 1 MB."))
        return file

    def clean(self) -> None:
        super().clean()
        if not self.errors and not self.document():
            raise forms.ValidationError(_("Choose a file, or paste its text."))

    def document(self) -> bytes:
        """What was submitted; a file goes before a text."""
        file = self.cleaned_data.get("file")
        if file is not None:
            file.seek(0)
            content: bytes = file.read()
            return content
        text: str = self.cleaned_data.get("text") or ""
        return text.strip().encode()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A document between its preview and its import: in the page, but encrypted.

    It holds keys, so neither the page nor the session may have it in plain text.
    """

    document: str
    replace: bool
    changes: list[str]
    user: int
    at: float

    def seal(self) -> str:
        return encrypt(json.dumps([self.document, self.replace, self.changes, self.user, self.at]))

    @classmethod
    def open(cls, text: str, user: int, now: float) -> Sealed | None:
        """None where it was not sealed here, for this user, a short time ago."""
        plain = decrypt(text)
        if isinstance(plain, Undecryptable):
            return None
        sealed = cls(*json.loads(plain))
        fresh = sealed.at <= now <= sealed.at + PREVIEW_SECONDS
        return sealed if fresh and sealed.user == user else None


def transfer_view(site: admin.AdminSite, request: HttpRequest) -> HttpResponse:
    """The page, and what its three forms do."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    handler = _HANDLERS.get(request.POST.get("do", ""))
    if request.method == "POST" and handler is not None:
        return handler(site, request)
    return _page(site, request, ImportForm())


def _export(site: admin.AdminSite, request: HttpRequest) -> HttpResponse:
    with_secrets = "secrets" in request.POST
    document = export_configuration(with_secrets=with_secrets)
    _log(request, _("Exported with its keys.") if with_secrets else _("Exported without keys."))
    return HttpResponse(
        json.dumps(document, ensure_ascii=False, indent=2) + "\n",
        content_type="application/json",
        headers={
            "content-disposition": 'attachment; filename="fallbackproxy.json"',
            "cache-control": "no-store",
        },
    )


def _preview(site: admin.AdminSite, request: HttpRequest) -> HttpResponse:
    form = ImportForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(site, request, form)
    try:
        text = form.document().decode()
        plan = plan_import(parse(text.encode()), replace=form.cleaned_data["replace"])
    except UnicodeDecodeError:
        return _page(site, request, form, errors=[_("This is not a text file.")])
    except InvalidDocument as error:
        return _page(site, request, form, errors=error.errors)
    return _preview_page(site, request, text, form.cleaned_data["replace"], plan)


def _apply(site: admin.AdminSite, request: HttpRequest) -> HttpResponse:
    sealed = Sealed.open(request.POST.get("sealed", ""), _user_id(request), time.time())
    if sealed is None:
        message = _("This preview is too old. Choose the file again.")
        return _page(site, request, ImportForm(), errors=[message])
    document = parse(sealed.document.encode())
    try:
        plan = plan_import(document, replace=sealed.replace)
        if plan.changes != sealed.changes:
            messages.warning(request, _("The configuration has changed in the meantime."))
            return _preview_page(site, request, sealed.document, sealed.replace, plan)
        plan = apply_import(document, replace=sealed.replace)
    except InvalidDocument as error:
        return _page(site, request, ImportForm(), errors=error.errors)
    _log(request, _("Imported: %s.") % "; ".join(plan.changes))
    count = len(plan.changes)
    text = ngettext("%d change was made.", "%d changes were made.", count) % count
    messages.success(request, text)
    return HttpResponseRedirect(reverse("admin:index"))


_HANDLERS = {"export": _export, "preview": _preview, "apply": _apply}


def _preview_page(
    site: admin.AdminSite, request: HttpRequest, text: str, replace: bool, plan: Plan
) -> HttpResponse:
    sealed = Sealed(text, replace, plan.changes, _user_id(request), time.time())
    shown = [(_KINDS.get(change.split(" ", 1)[0], ""), change) for change in plan.changes]
    context = {"changes": shown, "notes": plan.notes, "sealed": sealed.seal(), "preview": True}
    return _page(site, request, ImportForm(), **context)


def _page(
    site: admin.AdminSite, request: HttpRequest, form: ImportForm, **extra: Any
) -> HttpResponse:
    context = {
        **site.each_context(request),
        "title": _("Import and export"),
        "form": form,
        "undecryptable": undecryptable_providers(),
        **extra,
    }
    response = TemplateResponse(request, "providers/transfer.html", context)
    response["cache-control"] = "no-store"
    return response


def _log(request: HttpRequest, message: str) -> None:
    settings = ProxySettings.load()
    LogEntry.objects.log_actions(
        _user_id(request),
        [settings],
        CHANGE,
        change_message=message,
        single_object=True,
    )


def _user_id(request: HttpRequest) -> int:
    return int(request.user.pk or 0)
