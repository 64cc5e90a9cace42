"""The forms of the admin. A stored secret never reaches a form: it is masked, or not there."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.formsets import DELETION_FIELD_NAME
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from providers.admin import masks
from providers.fields import Undecryptable
from providers.models import Provider
from providers.presets import placeholder_in

_UNDECRYPTABLE_HEADERS = _(
    "Headers are stored, but they cannot be decrypted with ENCRYPTION_KEY. This provider is not "
    "asked until they have been entered again: {} for none."
)

_REPLACE = _("Replace %(word)s by your own.")


class SecretInput(forms.PasswordInput):
    """An input for a new secret: always empty when shown."""

    def __init__(self) -> None:
        super().__init__(
            attrs={"autocomplete": "new-password", "spellcheck": "false", "class": "vTextField"},
            render_value=False,
        )

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        # Else Django leaves the stored key alone, although it is to be removed.
        return False


class HeadersField(forms.CharField):
    """Names and masked values. A form that comes back with errors has lost its new values."""

    widget = forms.Textarea(
        attrs={"rows": 4, "class": "vLargeTextField code", "spellcheck": "false"}
    )

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return masks.without_values(data or "")
        except ValidationError:
            return initial

    def has_changed(self, initial: Any, data: Any) -> bool:
        if not initial:
            return bool(data)
        try:
            return masks.parse_headers(initial) != masks.parse_headers(data or "")
        except ValidationError:
            return True


class ProviderForm(forms.ModelForm):  # type: ignore[type-arg]
    api_key = forms.CharField(
        label=_("API key"),
        required=False,
        widget=SecretInput(),
        help_text=_("Left empty, the stored key is kept. It is encrypted, and never shown again."),
    )
    remove_key = forms.BooleanField(label=_("Remove the key"), required=False)
    extra_headers = HeadersField(
        label=_("Extra headers"),
        required=False,
        help_text=_(
            'Sent with every request: a JSON object, for example {"X-Title": "Claude Code"}. '
            "Stored values are shown as dots: leave the dots to keep a value, "
            "take a name out to remove it."
        ),
    )

    stand_in_key = ""
    """Stored where a new provider is given no key: some servers want any, and take any."""

    class Meta:
        model = Provider
        fields = (
            "name",
            "enabled",
            "base_url",
            "format",
            "credentials",
            "api_key",
            "auth_header",
            "extra_headers",
            "on_client_401",
            "retries",
            "retry_first",
            "connect_limit",
            "idle_limit",
            "first_byte_stream_limit",
            "first_byte_limit",
            "context_window",
            "max_output_tokens",
            "profile",
        )
        widgets = {
            "base_url": forms.TextInput(attrs={"class": "vLargeTextField", "spellcheck": "false"}),
            "profile": forms.Textarea(
                attrs={"rows": 6, "class": "vLargeTextField code", "spellcheck": "false"}
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["api_key"] = ""
        self.initial["extra_headers"] = masks.masked(self.instance.extra_headers)
        if self.instance.pk is None and "api_key" in self.fields:
            self.fields["api_key"].help_text = (
                _("This server takes any key: it may stay empty.")
                if self.stand_in_key
                else _("It is encrypted, and never shown again.")
            )
        if isinstance(self.instance.extra_headers, Undecryptable):
            self.fields["extra_headers"].help_text = format_html(
                '<strong class="ccf-bad">{}</strong>', _UNDECRYPTABLE_HEADERS
            )
        if "profile" in self.fields:
            # A default that is called makes Django compare with a hidden copy in the page.
            self.fields["profile"].show_hidden_initial = False

    def clean_base_url(self) -> str:
        url: str = self.cleaned_data["base_url"]
        if word := placeholder_in(url):
            raise ValidationError(_REPLACE, params={"word": word})
        return url

    def clean_api_key(self) -> Any:
        """The new key, or else the stored one, even when it cannot be decrypted."""
        new: str = self.cleaned_data["api_key"]
        if new or self.instance.pk:
            return new or self.instance.api_key
        return self.stand_in_key

    def clean_extra_headers(self) -> Any:
        text, stored = self.cleaned_data["extra_headers"], self.instance.extra_headers
        if not text and isinstance(stored, Undecryptable):
            return stored  # Provider.clean says what is wrong with it
        return masks.merged(masks.parse_headers(text), stored)

    def clean_profile(self) -> Any:
        profile = self.cleaned_data["profile"]
        return {} if profile is None else profile

    def clean(self) -> None:
        super().clean()
        if self.cleaned_data.get("remove_key"):
            if "api_key" in self.changed_data:
                self.add_error("remove_key", _("Enter a new key, or remove the stored one."))
            else:
                self.cleaned_data["api_key"] = ""


class MappingFormSet(forms.BaseInlineFormSet):  # type: ignore[type-arg]
    def add_fields(self, form: Any, index: int | None) -> None:
        """In a table the heading names a column to those who see it; to others the field has to."""
        super().add_fields(form, index)
        for field in form.fields.values():
            if field.label:
                field.widget.attrs["aria-label"] = field.label

    def clean(self) -> None:
        """A model that is mapped twice is an error at each of its rows."""
        rows = [
            form
            for form in self.forms
            if form.cleaned_data.get("source") and not form.cleaned_data.get(DELETION_FIELD_NAME)
        ]
        times = Counter(form.cleaned_data["source"] for form in rows)
        for form in rows:
            source = form.cleaned_data["source"]
            if times[source] > 1:
                problem = _("“%(source)s” is mapped twice.")
                form.add_error("source", ValidationError(problem, params={"source": source}))
            if word := placeholder_in(form.cleaned_data.get("target", "")):
                form.add_error("target", ValidationError(_REPLACE, params={"word": word}))
