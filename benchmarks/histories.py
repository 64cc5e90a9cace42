"""Requests as Claude Code sends them in the middle of a session, made once.

Their make-up is that of a session of Claude Code 2.1.330: a billing block and two cached blocks
of system prompt, twelve tools with their schemas (30 KB), a system message among the messages,
and turns of thinking, a sentence and one or two calls, answered by listings of code.
"""

from __future__ import annotations

import json
import random
from typing import Any

SIZE = 256 * 1024
RESULT = 1_900
LARGE_RESULT = 20_000
_BILLING = "x-anthropic-billing-header: cc_version=2.1.330.e4b; cc_entrypoint=cli;"
_CACHED = {"cache_control": {"type": "ephemeral"}}
_USER_ID = json.dumps({"device_id": "0" * 64, "account_uuid": "", "session_id": "1" * 36})
_PROSE = (
    "the agent reads a file before it changes one — otherwise the edit fails. ",
    "- Prefer absolute paths; `cd` in a compound command can ask for permission.\n",
    'Write "a short description" of what each command does.\n',
)
_CODE = (
    "from collections.abc import Iterable, Mapping\n",
    "    def __init__(self, name: str, *, limit: int = 10) -> None:\n",
    '        """The first of them, "" if there is none."""\n',
    '        return self._names.get(name) or f"{name}-{self._limit}"\n',
    "\n",
    "        # Whoever comes second waits: the lock is not held across an await.\n",
    '    path = re.compile(r"^\\w+/(?P<name>[^/]+)$")\n',
)


def coding_session(result: int = RESULT) -> bytes:
    """256 KB of a session, in which a tool's result has about `result` characters."""
    dice = random.Random(7)
    document = _opening()
    size = len(_encoded(document))
    number = 0
    while size < SIZE - 1.2 * result:
        turn = _turn(number, result, dice)
        document["messages"] += turn
        size += len(_encoded(turn))
        number += 1
    return _encoded(document)


def _opening() -> dict[str, Any]:
    return {
        "model": "claude-opus-4-8",
        "messages": [
            {"role": "user", "content": [_text(_prose(300)), _text("Explain this code to me.")]},
            {"role": "system", "content": _prose(9_800)},
        ],
        "system": [
            _text(_BILLING),
            {**_text("You are a Claude agent."), **_CACHED},
            {**_text(_prose(7_000)), **_CACHED},
        ],
        "tools": [_tool(number) for number in range(12)],
        "metadata": {"user_id": _USER_ID},
        "max_tokens": 128_000,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "stream": True,
    }


def _tool(number: int) -> dict[str, Any]:
    option = {"type": "string", "enum": ["default", "plan"], "description": _prose(90)}
    entry = {"type": "object", "properties": {"name": option, "note": option}, "required": ["name"]}
    properties: dict[str, Any] = {
        "file_path": {"type": "string", "description": _prose(80)},
        "limit": {"type": "integer", "exclusiveMinimum": 0, "description": _prose(120)},
        "entries": {"type": "array", "minItems": 1, "items": entry},
    }
    return {
        "name": f"Tool{number}",
        "description": _prose(1_500),
        "input_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": properties,
            "required": ["file_path"],
            "additionalProperties": False,
        },
    }


def _turn(number: int, result: int, dice: random.Random) -> list[dict[str, Any]]:
    """One answer of the model and what its calls gave: every sixth has two, every sixth writes."""
    thought = {
        "type": "thinking",
        "thinking": _prose(dice.randint(50, 350)),
        "signature": "EqQB" * 75,
    }
    calls, results = [], []
    for part in range(2 if number % 6 == 2 else 1):
        call_id = f"toolu_{number:012d}{part:012d}"
        arguments: dict[str, Any] = {"file_path": f"/home/me/work/module_{number}.py", "limit": 70}
        if number % 6 == 4:
            arguments["content"] = _code(2_500)
        calls.append({"type": "tool_use", "id": call_id, "name": "Tool1", "input": arguments})
        told = _code(int(result * dice.uniform(0.5, 1.5)))
        answer = {"tool_use_id": call_id, "type": "tool_result", "content": told}
        results.append(answer | ({"is_error": False} if number % 2 else {}))
    content = [thought, _text(_prose(dice.randint(60, 140))), *calls]
    return [{"role": "assistant", "content": content}, {"role": "user", "content": results}]


def _text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def _prose(size: int) -> str:
    return ("".join(_PROSE) * (size // 60))[:size]


def _code(size: int) -> str:
    """A listing with numbered lines."""
    lines = (f"{n}\t{_CODE[n % len(_CODE)]}" for n in range(1, size // 20))
    return "".join(lines)[:size]


def _encoded(value: Any) -> bytes:
    """As JavaScript writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
