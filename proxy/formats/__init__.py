"""The wire formats, by name."""

from __future__ import annotations

from providers.routing import WireFormat
from proxy.formats.anthropic import ANTHROPIC
from proxy.formats.base import Format
from proxy.formats.openai_chat import OPENAI_CHAT

FORMATS: dict[WireFormat, Format] = {
    WireFormat.ANTHROPIC: ANTHROPIC,
    WireFormat.OPENAI: OPENAI_CHAT,
}
