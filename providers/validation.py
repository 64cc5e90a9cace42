"""What is wrong with a value that somebody has typed, in words for a form. None: nothing is."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext_lazy as _

from providers.fields import Undecryptable

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_RESERVED_HEADERS = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "accept-encoding",
        "upgrade",
        "te",
        "trailer",
    ]
)


def base_url_problem(url: str) -> Any:
    """What is wrong with a base URL, None when nothing is."""
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        return _("This is not a URL.")
    if parts.scheme not in ("http", "https"):
        return _("The URL has to begin with https:// or http://.")
    if not parts.hostname or not port_ok or any(c.isspace() for c in url) or not url.isascii():
        return _("This is not a URL.")
    if parts.username or parts.password:
        return _("Put credentials into the key, not into the URL.")
    if parts.fragment:
        return _("A URL with a fragment (#) cannot be called.")
    return None


def header_name_problem(name: str) -> Any:
    """What is wrong with the name of a header of our own, None when nothing is."""
    if not _HEADER_NAME.fullmatch(name):
        return _("This is not a header name.")
    if name.lower() in _RESERVED_HEADERS:
        return _("This header is set by the proxy itself.")
    return None


def headers_problem(headers: object) -> Any:
    """What is wrong with a set of extra headers, None when nothing is."""
    if isinstance(headers, Undecryptable):
        return _("The stored headers cannot be decrypted with ENCRYPTION_KEY. Enter them again.")
    if not isinstance(headers, dict):
        return _("A JSON object of header names and values is needed.")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            return _("“%(name)s” is not a header name.") % {"name": name}
        if name.lower() in _RESERVED_HEADERS:
            return _("“%(name)s” is set by the proxy itself.") % {"name": name}
        if not isinstance(value, str) or not is_header_value(value):
            return _("The value of “%(name)s” has to be printable ASCII text.") % {"name": name}
    return None


def is_header_value(value: str) -> bool:
    """Whether a text can be sent as a header's value as it is."""
    return value.isascii() and value.isprintable() and value == value.strip()
