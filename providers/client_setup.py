"""What a user of Claude Code, or of an SDK, has to set to come through the proxy."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

DEFAULT_URL = "http://127.0.0.1:8787"
UNKNOWN_TOKEN = "<your token>"  # noqa: S105
HEADER = "x-ccf-api-key"
"""Carries a client's token beside its own credentials."""

MODEL = "claude-sonnet-5"
_NEEDS_QUOTES = re.compile(r"[\s<>]")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A few lines for one client. `where` says where they go."""

    key: str
    title: str | Promise
    where: str | Promise
    text: str


def public_url(otherwise: str) -> str:
    """Where the proxy is reached: behind a reverse proxy with TLS, by its first public name.

    `otherwise` is the address that it listens on. There a browser could not log in then:
    the name is not allowed, and the session's cookie is sent over HTTPS alone.
    """
    if settings.SECURE_PROXY_SSL_HEADER:
        for host in settings.ALLOWED_HOSTS:
            if host not in _LOOPBACK and not host.startswith(("*", ".")):
                return f"https://{host}"
    return otherwise


def export_lines(url: str, token: str = UNKNOWN_TOKEN) -> list[str]:
    """Lines for a shell. The custom header leaves the client's own credentials alone."""
    return _exports(_variables(url, token, own_login=True))


def snippets(base_url: str, token: str = UNKNOWN_TOKEN, *, own_login: bool = True) -> list[Snippet]:
    """The lines for every client we know.

    With `own_login` the client keeps its own Claude credentials, and the token
    travels in a header beside them; else the token is all it has, and only
    providers with a key of their own are asked.
    """
    variables = _variables(base_url, token, own_login)
    return [
        Snippet(
            "shell",
            _("Claude Code, in a shell"),
            _("Paste into the terminal that starts it, or into ~/.bashrc or ~/.zshrc."),
            "\n".join([*_exports(variables), "claude"]),
        ),
        Snippet(
            "settings",
            _("Claude Code, for good"),
            _("Goes into ~/.claude/settings.json, beside what is there."),
            json.dumps({"env": variables}, indent=2),
        ),
        Snippet(
            "env",
            _("A .env file"),
            _("For containers and CI jobs."),
            "\n".join(f"{name}={value}" for name, value in variables.items()),
        ),
        Snippet(
            "python", _("Python SDK"), "pip install anthropic", _python(base_url, token, own_login)
        ),
        Snippet(
            "typescript",
            _("TypeScript SDK"),
            "npm install @anthropic-ai/sdk",
            _typescript(base_url, token, own_login),
        ),
        Snippet(
            "curl", _("curl"), _("To see whether it answers."), _curl(base_url, token, own_login)
        ),
    ]


def _exports(variables: dict[str, str]) -> list[str]:
    return [
        f'export {name}="{value}"' if _NEEDS_QUOTES.search(value) else f"export {name}={value}"
        for name, value in variables.items()
    ]


def _variables(base_url: str, token: str, own_login: bool) -> dict[str, str]:
    if own_login:
        return {
            "ANTHROPIC_BASE_URL": base_url,
            "ANTHROPIC_CUSTOM_HEADERS": f"{HEADER}: {token}",
        }
    return {"ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_AUTH_TOKEN": token}


def _python(base_url: str, token: str, own_login: bool) -> str:
    credentials = (
        f'    default_headers={{"{HEADER}": "{token}"}},  # the key is in ANTHROPIC_API_KEY'
        if own_login
        else f'    auth_token="{token}",'
    )
    return f"""\
from anthropic import Anthropic

client = Anthropic(
    base_url="{base_url}",
{credentials}
)
message = client.messages.create(
    model="{MODEL}",
    max_tokens=100,
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(message.content[0].text)"""


def _typescript(base_url: str, token: str, own_login: bool) -> str:
    credentials = (
        f'  defaultHeaders: {{ "{HEADER}": "{token}" }}, // the key is in ANTHROPIC_API_KEY'
        if own_login
        else f'  authToken: "{token}",'
    )
    return f"""\
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({{
  baseURL: "{base_url}",
{credentials}
}});
const message = await client.messages.create({{
  model: "{MODEL}",
  max_tokens: 100,
  messages: [{{ role: "user", content: "Hello" }}],
}});
console.log(message.content);"""


def _curl(base_url: str, token: str, own_login: bool) -> str:
    own = ' \\\n  -H "x-api-key: $ANTHROPIC_API_KEY"' if own_login else ""
    body = {
        "model": MODEL,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    return f"""\
curl {base_url}/v1/messages \\
  -H "{HEADER}: {token}"{own} \\
  -H "anthropic-version: 2023-06-01" \\
  -H "content-type: application/json" \\
  -d '{json.dumps(body)}'"""
