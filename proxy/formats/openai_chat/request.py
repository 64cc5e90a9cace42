"""An Anthropic Messages request as a Chat Completions request.

The body is built from an allow-list: a field that is not named here cannot leak.
https://docs.anthropic.com/en/api/messages,
https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from providers.routing import LONG_CONTEXT_SUFFIX, Target
from proxy.errors import RequestRefused
from proxy.formats.openai_chat.conversation import Preamble, messages_of, read_conversation
from proxy.formats.openai_chat.encoding import dump_text
from proxy.formats.openai_chat.identifiers import ToolNames, digest
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.limits import output_limit, stop_sequences
from proxy.formats.openai_chat.messages import MessageWriter
from proxy.formats.openai_chat.omissions import note_omissions
from proxy.formats.openai_chat.pairing import Message
from proxy.formats.openai_chat.profile import Profile
from proxy.formats.openai_chat.reasoning import OFF, reasoning_params, wanted_effort
from proxy.formats.openai_chat.reasoning_history import ReasoningHistory
from proxy.formats.openai_chat.schema import clean_schema, is_strict
from proxy.formats.openai_chat.tools import (
    Mentions,
    function_tools,
    offered_tools,
    tool_choice_params,
)

_CONTINUE = {"role": "user", "content": "Continue from where you left off."}
_FIRST_USER = {"role": "user", "content": "(conversation continues)"}
_RESULTS_READ = {"role": "assistant", "content": "(tool results received)"}


@dataclass(frozen=True, slots=True)
class Converted:
    """One converted request and what the way back needs from it."""

    body: dict[str, Any]
    tool_names: Mapping[str, str]
    tool_ids: frozenset[str]
    ledger: Ledger


def convert(
    document: dict[str, Any], target: Target, profile: Profile, *, session_id: str = ""
) -> Converted:
    """Raises `RequestRefused` for what is not a Messages request. Never changes `document`."""
    ledger = Ledger()
    effort = wanted_effort(document)
    reasoning = ReasoningHistory(
        profile, str(target.provider.id), ledger, reasoning_off=effort == OFF
    )
    writer = MessageWriter(messages_of(document), profile, reasoning, ledger)
    preamble = read_conversation(document, writer, profile, ledger)
    tools = offered_tools(document, _mentions(writer, preamble), profile, ledger)
    if tools and not profile.supports_tools:
        raise RequestRefused("the model is known not to support tools")
    names = ToolNames([tool["name"] for tool in tools], profile)
    response_format, instructions = _structured_output(document, profile)
    messages = _arranged(writer.finish(preamble.system, instructions, names.wire), profile)
    body: dict[str, Any] = {
        "model": target.model.removesuffix(LONG_CONTEXT_SUFFIX),
        "messages": messages,
        **_token_limit(document, profile),
        **_sampling(document, profile),
        **_stream(document, profile),
    }
    if tools:
        body["tools"] = function_tools(tools, names, profile, ledger)
        body |= tool_choice_params(document, tools, names, profile)
    body |= response_format
    thinking = reasoning_params(effort, profile, with_tools=bool(tools))
    body |= thinking
    body |= _identity(document, profile, session_id)
    note_omissions(document, body, ledger, thinks=bool(thinking))
    return Converted(
        body=_with_escape_hatches(body, profile),
        tool_names=names.reverse(),
        tool_ids=writer.pairs.client_ids(),
        ledger=ledger,
    )


def _mentions(writer: MessageWriter, preamble: Preamble) -> Mentions:
    called = {function["name"] for function in writer.calls}
    mentions = Mentions(called, set(writer.loaded))
    mentions.apply(preamble.tool_changes)
    return mentions


def _token_limit(document: Mapping[str, Any], profile: Profile) -> dict[str, int]:
    limit = output_limit(document, profile)
    if profile.max_output_tokens is not None:
        limit = min(limit, profile.max_output_tokens)
    return {profile.max_tokens_field: limit}


def _sampling(document: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    params: dict[str, Any] = {}
    wanted = () if profile.sampling == "drop" else ("temperature", "top_p")
    for name in (*wanted, "top_k") if profile.supports_top_k else wanted:
        value = document.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            params[name] = value
    stop = stop_sequences(document)[: profile.stop_max]
    if stop:
        params["stop"] = stop
    return params


def _stream(document: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    if document.get("stream") is not True:
        return {}
    if not profile.stream_options:
        return {"stream": True}
    return {"stream": True, "stream_options": {"include_usage": True}}


def _structured_output(
    document: Mapping[str, Any], profile: Profile
) -> tuple[dict[str, Any], list[str]]:
    """The `response_format`, and the paragraph of the system prompt that stands in for it."""
    config = document.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if not isinstance(wanted, dict):
        wanted = document.get("output_format")
    schema = wanted.get("schema") if isinstance(wanted, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return {}, []
    if not isinstance(schema, dict):
        return {}, []
    if profile.structured_output == "json_schema":
        if profile.schema_dialect == "gemini":
            schema = clean_schema(schema, profile.schema_dialect)
        described = {"name": "response", "schema": schema, "strict": is_strict(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": described}}, []
    paragraph = (
        "Answer with one JSON value that is valid under this JSON Schema, and with nothing else:\n"
        + dump_text(schema)
    )
    if profile.structured_output == "json_object":
        return {"response_format": {"type": "json_object"}}, [paragraph]
    return {}, [paragraph]


def _identity(document: Mapping[str, Any], profile: Profile, session_id: str) -> dict[str, str]:
    params = {}
    metadata = document.get("metadata")
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    if profile.user_field == "hash" and isinstance(user_id, str) and user_id:
        params["user"] = digest(user_id, 32)
    if profile.prompt_cache_key and session_id:
        params["prompt_cache_key"] = digest(session_id, 32)
    return params


def _arranged(messages: list[Message], profile: Profile) -> list[Message]:
    """The messages in the order of roles that the provider insists on."""
    if not any(message["role"] != profile.system_role for message in messages):
        raise RequestRefused("messages: at least one message is required")
    if profile.message_alternation:
        messages = _alternating(messages, profile.system_role)
    last = messages[-1]
    if last["role"] == "assistant":
        if profile.prefill == "append_user":
            messages.append(dict(_CONTINUE))
        elif profile.prefill == "mistral_prefix":
            last["prefix"] = True
    return messages


def _alternating(messages: list[Message], system_role: str) -> list[Message]:
    """For strict chat templates: a user speaks first, and never right after a tool."""
    arranged: list[Message] = []
    for message in messages:
        before = arranged[-1]["role"] if arranged else system_role
        if message["role"] == "assistant" and before == system_role:
            arranged.append(dict(_FIRST_USER))
        elif message["role"] == "user" and before == "tool":
            arranged.append(dict(_RESULTS_READ))
        arranged.append(message)
    return arranged


def _with_escape_hatches(body: dict[str, Any], profile: Profile) -> dict[str, Any]:
    """The operator's own parameters last: added, then removed."""
    for name, value in profile.extra_body.items():
        present = body.get(name)
        if isinstance(present, dict) and isinstance(value, Mapping):
            value = {**present, **value}
        body[name] = value
    for name in profile.drop_params:
        body.pop(name, None)
    return body
