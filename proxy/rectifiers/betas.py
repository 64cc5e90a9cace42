"""Beta features that an upstream does not know: a header value and a field travel together."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from providers.routing import Target
from proxy.rectifiers.base import ANTHROPIC, Draft, Rule, added, wording
from proxy.rectifiers.document import Block, Document, kind, map_blocks, map_objects, put
from proxy.rectifiers.fields import delete_field
from proxy.wire import HeaderPairs

BETA = b"anthropic-beta"
OAUTH = "oauth-"
BODY_LISTS = ("anthropic_beta", "betas")
ALL = "*"


def _field(*paths: str) -> Callable[[Document], Document]:
    def change(document: Document) -> Document:
        for path in paths:
            document = delete_field(document, path)
        return document

    return change


def _tool(prefix: str) -> Callable[[Document], Document]:
    def change(document: Document) -> Document:
        return map_objects(
            document, "tools", lambda tool: None if kind(tool).startswith(prefix) else tool
        )

    return change


def _tool_search(document: Document) -> Document:
    """Every tool offered at once, and references to loaded tools as text."""

    def change(block: Block) -> Block:
        if kind(block) != "tool_reference":
            return block
        return {"type": "text", "text": f"Tool loaded: {block.get('tool_name')}"}

    document = map_blocks(document, change, nested=True)
    return _tool("tool_search_tool_")(_field("tools.*.defer_loading")(document))


def _tool_changes(document: Document) -> Document:
    gone = ("tool_addition", "tool_removal")
    return map_blocks(document, lambda block: None if kind(block) in gone else block)


_Change = Callable[[Document], Document]

BODY_HALF: tuple[tuple[str, tuple[_Change, ...]], ...] = (
    ("context-management-", (_field("context_management"),)),
    ("effort-", (_field("output_config.effort"),)),
    ("structured-outputs-", (_field("output_config.format", "output_format", "tools.*.strict"),)),
    ("task-budgets-", (_field("output_config.task_budget"),)),
    (
        "advanced-tool-use-",
        (_tool_search, _field("tools.*.input_examples", "tools.*.allowed_callers")),
    ),
    ("tool-search-tool-", (_tool_search,)),
    ("tool-examples-", (_field("tools.*.input_examples"),)),
    ("fine-grained-tool-streaming-", (_field("tools.*.eager_input_streaming"),)),
    ("mid-conversation-tool-changes-", (_tool_changes,)),
    ("per-turn-control-", (_field("messages.*.output_config"),)),
    ("dangerous-tool-use-", (_field("safeguards"),)),
    ("extended-cache-ttl-", (_field("cache_control.ttl"),)),
    ("fast-mode-", (_field("speed"),)),
    ("mcp-client-", (_field("mcp_servers"), _tool("mcp_toolset"))),
    ("advisor-tool-", (_tool("advisor_"),)),
    ("code-execution-", (_tool("code_execution_"), _field("container"))),
    ("web-fetch-", (_tool("web_fetch_"),)),
    ("computer-use-", (_tool("computer_"),)),
)
"""What of the body belongs to a beta, by the beginning of its name. Others have no body half."""


def strip_betas(draft: Draft, unwanted: Collection[str]) -> Draft:
    """The draft without some betas, header and body. `"*"` stands for all but OAuth's.

    The very same draft if it has none of them.
    """
    document, removed = draft.document, set(unwanted) - {ALL}
    headers = _strip_header(draft.headers, unwanted, removed)
    for key in BODY_LISTS:
        names = document.get(key)
        if isinstance(names, list):
            kept = [name for name in names if not _unwanted(str(name), unwanted)]
            removed |= {str(name) for name in names} - {str(name) for name in kept}
            document = document if len(kept) == len(names) else put(document, key, kept)
    for prefix, changes in BODY_HALF:
        if any(name.startswith(prefix) for name in removed):
            for change in changes:
                document = change(document)
    if headers is draft.headers and document is draft.document:
        return draft
    return replace(draft, document=document, headers=headers)


def _strip_header(
    headers: HeaderPairs, unwanted: Collection[str], removed: set[str]
) -> HeaderPairs:
    """The headers without these betas; what was removed is added to `removed`."""
    pairs: list[tuple[bytes, bytes]] = []
    changed = False
    for name, value in headers:
        if name != BETA:
            pairs.append((name, value))
            continue
        listed = [beta.strip() for beta in value.decode("latin-1").split(",")]
        kept = [beta for beta in listed if not _unwanted(beta, unwanted)]
        removed |= set(listed) - set(kept)
        changed = changed or kept != listed
        if kept:
            pairs.append((name, ",".join(kept).encode("latin-1") if kept != listed else value))
    return pairs if changed else headers


def _unwanted(beta: str, unwanted: Collection[str]) -> bool:
    return beta in unwanted or (ALL in unwanted and not beta.startswith(OAUTH))


_NAMED = re.compile(
    r"unexpected values?(?:\(s\))? (?P<names>[^\n]+?) for the anthropic-beta header", re.IGNORECASE
)


def _strip(draft: Draft, said: str, target: Target) -> Draft | None:
    named = {
        name
        for found in _NAMED.finditer(said)
        for name in re.split(r"[,\s]+", found["names"])
        if name
    }
    if target.provider.uses_client_credentials:
        named = {name for name in named if not name.startswith(OAUTH)}
        if not named and _NAMED.search(said):
            return None
    stripped = strip_betas(draft, named or {ALL})
    if stripped is draft:
        return None
    learned: dict[str, Any] = added(
        draft, target, "strip_betas", dict.fromkeys(sorted(named) or [ALL])
    )
    return replace(stripped, profile={**draft.profile, **learned})


REPAIRS = (
    Rule(
        name="beta_header",
        label="Drop beta features that the provider does not know",
        formats=ANTHROPIC,
        says=wording(_NAMED.pattern, r"invalid beta flag"),
        mend=_strip,
        why="Claude Code drops a beta and asks again by itself",
        learns=frozenset({"strip_betas"}),
    ),
)
