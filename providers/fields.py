"""Model fields whose values are encrypted in the database."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _


class Undecryptable(str):
    """Stands for a value that none of our keys can decrypt. Empty to its readers.

    It keeps the ciphertext, so that saving the row does not destroy what the
    right key could still read.
    """

    __slots__ = ("ciphertext",)
    ciphertext: str

    def __new__(cls, ciphertext: str) -> Undecryptable:
        self = super().__new__(cls, "")
        self.ciphertext = ciphertext
        return self


@lru_cache(maxsize=1)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(plaintext: str) -> str:
    return _fernet(tuple(settings.ENCRYPTION_KEYS)).encrypt(plaintext.encode()).decode()


def decrypt(ciphertext: str) -> str:
    """The plaintext, or `Undecryptable`: a lost key is told apart from a missing value."""
    try:
        return _fernet(tuple(settings.ENCRYPTION_KEYS)).decrypt(ciphertext.encode()).decode()
    except InvalidToken:
        return Undecryptable(ciphertext)


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Text, encrypted at rest with `ENCRYPTION_KEYS`. The empty string stays empty."""

    description = _("Encrypted text")

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        return decrypt(value) if value else value

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Undecryptable):
            return value.ciphertext
        # Not TextField's own: it would ask to_python, which decodes.
        return encrypt(str(value)) if value else value

    def get_lookup(self, lookup_name: str) -> Any:
        raise TypeError(f"{self.name} is encrypted and cannot be searched")


class EncryptedJSONField(EncryptedTextField):
    """A JSON object, encrypted at rest. An empty object is stored as the empty string."""

    description = _("Encrypted JSON object")

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        text = super().from_db_value(value, expression, connection)
        return text if isinstance(text, Undecryptable) else json.loads(text or "{}")

    def get_prep_value(self, value: Any) -> Any:
        if not isinstance(value, str):
            value = json.dumps(value, ensure_ascii=False) if value else ""
        return super().get_prep_value(value)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, Undecryptable) or not isinstance(value, str):
            return value
        try:
            return json.loads(value or "{}")
        except ValueError:
            raise ValidationError(_("This is not valid JSON.")) from None

    def value_to_string(self, obj: models.Model) -> str:
        return json.dumps(self.value_from_object(obj))


class NamesField(models.JSONField):
    """A list of names, such as of repairs."""

    description = _("List of names")

    def validate(self, value: Any, model_instance: models.Model | None) -> None:
        super().validate(value, model_instance)
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ValidationError(_("A list of names is needed."))
