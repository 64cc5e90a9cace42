"""A call as a command line: secrets and the body are placeholders."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from providers.client_setup import HEADER
from providers.endpoints import anthropic_url, chat_completions_url
from providers.models import Provider
from proxy.call import COUNT_TOKENS, MESSAGES
from proxy.models import Attempt, RequestLog

_VERSION = ("anthropic-version", "2023-06-01")


def through_proxy(base_url: str, call: RequestLog) -> str:
    """The call once more, through this proxy, with the client's own credentials."""
    headers = [(HEADER, "$CCF_TOKEN"), ("x-api-key", "$ANTHROPIC_API_KEY"), _VERSION]
    return _curl(base_url.rstrip("/") + call.path, headers, call)


def at_provider(provider: Provider, attempt: Attempt, call: RequestLog) -> str:
    """One attempt once more, straight at its provider."""
    openai = provider.format == Provider.WireFormat.OPENAI and call.path == MESSAGES
    base, _, query = provider.base_url.partition("?")
    url = chat_completions_url(base) if openai else anthropic_url(base, call.path)
    if query:
        url += "?..."  # it may hold a key
    headers = [*_credentials(provider), *([] if openai else [_VERSION])]
    comment = f"# body.json: the request {'in OpenAI’s format, ' if openai else ''}"
    return f"{comment}with the model {attempt.model!r}\n{_curl(url, headers, call)}"


def _credentials(provider: Provider) -> list[tuple[str, str]]:
    if provider.credentials == Provider.Credentials.CLIENT:
        return [("x-api-key", "$ANTHROPIC_API_KEY")]
    bearer = provider.auth_header.lower() == "authorization"
    own = [(provider.auth_header, "Bearer $PROVIDER_KEY" if bearer else "$PROVIDER_KEY")]
    extra = provider.extra_headers
    names = list(extra) if isinstance(extra, Mapping) else []
    return own + [(name, "$HEADER_VALUE") for name in names]


def _curl(url: str, headers: Iterable[tuple[str, str]], call: RequestLog) -> str:
    with_body = call.path in (MESSAGES, COUNT_TOKENS)
    lines = [f"curl {'-N ' if call.stream else ''}{shlex.quote(url)}"]
    # Names are checked when they are saved; values are placeholders for the shell to fill in.
    lines += [f'-H "{name}: {value}"' for name, value in headers]
    if with_body:
        lines += ['-H "content-type: application/json"', "-d @body.json"]
    return " \\\n  ".join(lines)
