"""Messages of OpenAI-format requests: what they may hold and in which order they may come."""

from __future__ import annotations

import re

from providers.routing import Target
from proxy.rectifiers.base import (
    OPENAI,
    TEMPLATE,
    VALIDATION,
    Draft,
    Rule,
    added,
    on_profile,
    override,
    switch,
    wording,
)
from proxy.rectifiers.document import listed

NO_CONTENT = "(no content)"

_REASONING_WANTED = (
    r"missing reasoning_content field in the assistant message",
    r"reasoning_content in the thinking mode must be passed back",
    r"reasoning_content is missing in assistant",
)
_NINE = r"tool call id was [^\n]{0,200} but must be a-z, a-z, 0-9, with a length of 9"
_SCHEMA_NAME = re.compile(r"invalid schema for function (?P<name>[\w-]+)", re.IGNORECASE)
_SCHEMA_INDEX = re.compile(
    r"tools[\[.](?P<a>\d+)\]?\.function\.parameters|function_declarations\[(?P<b>\d+)\]",
    re.IGNORECASE,
)


def _refuse_reasoning(draft: Draft, said: str, target: Target) -> Draft | None:
    """Not where the same attempt has just been told to hand reasoning back."""
    if draft.profile.get("reasoning_filler"):
        return None
    return override(draft, target, {"reasoning_history": "none", "reasoning_filler": False})


def _shorten_ids(draft: Draft, said: str, target: Target) -> Draft | None:
    """Ids of 9 where they are asked for; hashes of long ids, or else the shortest style."""
    style = switch(draft, target, "tool_id_style", "asis40")
    nine = re.search(_NINE, said, re.IGNORECASE) or style == "asis40"
    return override(draft, target, {"tool_id_style": "alnum9" if nine else "asis40"})


def _plain_schemas(draft: Draft, said: str, target: Target) -> Draft | None:
    """Simpler schemas for all tools; if they are simple already, the named tool is left out."""
    strict = switch(draft, target, "strict_tools")
    if strict or switch(draft, target, "schema_dialect") != "gemini":
        return override(draft, target, {"schema_dialect": "gemini", "strict_tools": False})
    name = _named_tool(draft, said)
    return (
        override(draft, target, added(draft, target, "drop_tools", {name: None})) if name else None
    )


def _named_tool(draft: Draft, said: str) -> str:
    custom = [
        tool
        for tool in listed(draft.document, "tools")
        if isinstance(tool, dict) and "input_schema" in tool
    ]
    names = [str(tool.get("name")) for tool in custom]
    if (found := _SCHEMA_NAME.search(said)) and found["name"] in names:
        return found["name"]
    found = _SCHEMA_INDEX.search(said)
    if found is None or any(tool.get("defer_loading") for tool in custom):
        return ""  # deferred tools are not sent: an index does not tell which tool it was
    at = int(found["a"] or found["b"])
    return names[at] if at < len(names) else ""


def _place_system(draft: Draft, said: str, target: Target) -> Draft | None:
    """Folded system messages; alternating roles where asked for, or where folding was in vain."""
    folded = {"inline_system": "fold_user"}
    if not re.search(r"alternate", said, re.IGNORECASE) and (
        turned := override(draft, target, folded)
    ):
        return turned
    return override(draft, target, {**folded, "message_alternation": True})


def _end_with_user(draft: Draft, said: str, target: Target) -> Draft | None:
    style = "mistral_prefix" if re.search(r"prefix true", said, re.IGNORECASE) else "append_user"
    return override(draft, target, {"prefill": style})


def _plain_content(draft: Draft, said: str, target: Target) -> Draft | None:
    """Strings only: first without parts in tool messages, then without any parts at all."""
    if switch(draft, target, "tool_images") == "inline":
        return override(draft, target, {"tool_images": "user_message"})
    return override(
        draft, target, {"images": False, "documents": "placeholder", "cache_control": "drop"}
    )


def _fill_content(draft: Draft, said: str, target: Target) -> Draft | None:
    """An empty string for null; a text where even that is refused."""
    if not re.search(r"empty", said, re.IGNORECASE) and (
        turned := override(draft, target, {"assistant_null_content": False})
    ):
        return turned
    return override(draft, target, {"assistant_null_content": False, "empty_content": NO_CONTENT})


REPAIRS = (
    Rule(
        name="reasoning_history",
        label="Hand reasoning back to a provider that asks for it",
        formats=OPENAI,
        says=wording(*_REASONING_WANTED),
        mend=on_profile(reasoning_history="reasoning_content", reasoning_filler=True),
        learns=frozenset({"reasoning_history", "reasoning_filler"}),
    ),
    Rule(
        name="reasoning_refused",
        label="Keep reasoning from a provider that refuses it",
        formats=OPENAI,
        statuses=VALIDATION,
        says=wording(
            r"property reasoning_content is unsupported",
            r"messages[^\n]{0,80}property reasoning(?:_details)? is unsupported",
            r"reasoning_content: extra inputs are not permitted",
            r"messages[^\n]{0,80}\breasoning(?:_details)?: extra inputs are not permitted",
            r"(?:unknown (?:parameter|name)|unsupported parameter|unrecognized[^\n]{0,30}):? "
            r"(?:messages[^\s]*\.)?reasoning_(?:content|details)",
            r"reasoning_content is not (?:supported|allowed|permitted)",
            r"reasoning_content (?:field )?should not be passed",
        ),
        unless=wording(*_REASONING_WANTED),
        mend=_refuse_reasoning,
        learns=frozenset({"reasoning_history", "reasoning_filler"}),
    ),
    Rule(
        name="tool_id_style",
        label="Shorten tool call ids",
        formats=OPENAI,
        statuses=VALIDATION,
        says=wording(
            _NINE,
            r"tool_call(?:s|_id)[^\n]{0,60}string too long\. expected a string with maximum length",
            r"string too long\. expected a string with maximum length 40\b",
        ),
        mend=_shorten_ids,
        learns=frozenset({"tool_id_style"}),
    ),
    Rule(
        name="thought_signature",
        label="Stand in for a missing thought signature",
        formats=OPENAI,
        says=wording(r"function call is missing a thought_signature"),
        mend=on_profile(thought_signature_sentinel=True),
        learns=frozenset({"thought_signature_sentinel"}),
    ),
    Rule(
        name="tool_schema",
        label="Simplify tool schemas",
        formats=OPENAI,
        says=wording(
            r"invalid schema for function",
            r"only enum and date-time are supported for string type",
            r"unknown name \$\w+",
            r"unknown name [\w$]+ at (?:request\.)?tools\[",
            r"tools[\[.]\d+\]?\.function\.parameters",
            r"tools\[\d+\]\.function_declarations\[\d+\]",
        ),
        mend=_plain_schemas,
        learns=frozenset({"schema_dialect", "strict_tools"}),
        runs=2,
    ),
    Rule(
        name="system_placement",
        label="Put system messages where the chat template takes them",
        formats=OPENAI,
        statuses=TEMPLATE,
        says=wording(
            r"system message must be at the beginning",
            r"conversation roles must alternate user/assistant",
        ),
        mend=_place_system,
        learns=frozenset({"inline_system", "message_alternation"}),
        runs=2,
    ),
    Rule(
        name="trailing_assistant",
        label="End the conversation as the provider wants it",
        formats=OPENAI,
        statuses=TEMPLATE,
        says=wording(
            r"expected last role user or tool",
            r"cannot have 2 or more assistant messages at the end of the list",
            r"assistant response prefill is (?:incompatible|not supported)",
        ),
        mend=_end_with_user,
        learns=frozenset({"prefill"}),
    ),
    Rule(
        name="null_content",
        label="Fill in missing message content",
        formats=OPENAI,
        statuses=TEMPLATE,
        says=wording(
            r"\bcontent\b[^\n]{0,60}(?:must not|cannot|can not|should not) be (?:null|none|empty)",
            r"\bcontent: expected a string, got null",
            r"\bcontent[^\n]{0,30}must be non-empty",
            r"assistantmessage, content\), msg: input should be a valid string",
        ),
        mend=_fill_content,
        learns=frozenset({"assistant_null_content", "empty_content"}),
        runs=2,
    ),
    Rule(
        name="plain_content",
        label="Send message content as plain text",
        formats=OPENAI,
        statuses=VALIDATION,
        says=wording(
            r"invalid message content",
            r"\bcontent must be a string",
            r"messages[\[.]\d+\]?(?:\.[\w-]+)*\.content[^\n]{0,30}"
            r"(?:expected a string|input should be a valid string)",
            r"messages\[\d+\]: invalid type: sequence, expected a string",
        ),
        unless=wording(r"got null", r"unknown variant image_url", r"maximum length"),
        mend=_plain_content,
        learns=frozenset({"images", "documents", "cache_control", "tool_images"}),
        runs=2,
    ),
)
