"""What a user of Claude Code has to set to come through the proxy."""

from __future__ import annotations

DEFAULT_URL = "http://127.0.0.1:8787"
UNKNOWN_TOKEN = "<your token>"  # noqa: S105


def export_lines(url: str, token: str = UNKNOWN_TOKEN) -> list[str]:
    """Lines for a shell. The custom header leaves the client's own credentials alone."""
    return [
        f"export ANTHROPIC_BASE_URL={url}",
        f'export ANTHROPIC_CUSTOM_HEADERS="x-ccf-api-key: {token}"',
    ]
