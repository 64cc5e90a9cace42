"""Tools in the words of Chat Completions providers."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from proxy.errors import RequestRefused
from tests.openai_dialect import (
    SCHEMA,
    WEB_SEARCH,
    asking,
    assistant,
    sent,
    tool,
    tool_result,
    tool_use,
    user,
)


def function(name: str = "Bash", **fields: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": name, **fields, "parameters": parameters}}


def test_q23_a_tool_has_a_name_a_description_and_parameters() -> None:
    extra = {
        "cache_control": {"type": "ephemeral"},
        "defer_loading": False,
        "eager_input_streaming": True,
        "input_examples": [{}],
        "strict": True,
        "allowed_callers": ["direct"],
    }
    body = sent(asking("hi", tools=[tool("Bash", description="d", **extra)]))
    assert body["tools"] == [function(description="d")]


def test_q24_a_schema_always_describes_an_object() -> None:
    tools = [{"type": "custom", "name": "Bash", "input_schema": {}}]

    assert sent(asking("hi", tools=tools))["tools"] == [function()]
    assert sent(asking("hi", tools=[{"name": "Bash"}]))["tools"] == [function()]


SERVER_TOOLS = [
    WEB_SEARCH,
    {"type": "bash_20250124", "name": "bash"},
    {"type": "computer_20250124", "name": "computer", "display_width_px": 1},
    {"type": "mcp_toolset", "mcp_server_name": "x"},
    {"type": "invented_20290101", "name": "invented"},
    {"type": "web_fetch_20250910", "name": "web_fetch", "input_schema": {"type": "object"}},
]


@pytest.mark.parametrize("server_tool", SERVER_TOOLS, ids=lambda tool: tool["type"])
def test_q25_q27_tools_of_anthropics_servers_are_left_out(server_tool: dict[str, Any]) -> None:
    choice = {"type": "tool", "name": server_tool.get("name"), "disable_parallel_tool_use": True}
    alone = sent(asking("hi", tools=[server_tool], tool_choice=choice))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & alone.keys()

    beside = sent(asking("hi", tools=[server_tool, tool("Bash")], tool_choice=choice))
    assert beside["tools"] == [function()]
    assert "tool_choice" not in beside


def test_q27_no_tools_are_no_key() -> None:
    assert "tools" not in sent(asking("hi", tools=[], tool_choice={"type": "auto"}))


def test_an_unknown_kind_of_tool_with_a_schema_is_a_custom_one() -> None:
    assert sent(asking("hi", tools=[tool("Bash", type="function")]))["tools"] == [function()]


def test_q26_long_or_illegal_names_are_mapped_everywhere() -> None:
    long, dotted = "mcp__" + "x" * 80, "a.b"
    document = asking(
        "hi",
        assistant(tool_use("t1", dotted), tool_use("t2", long)),
        user(tool_result("t1"), tool_result("t2")),
        tools=[tool(dotted), tool("a_b"), tool(long), tool("a_b")],
        tool_choice={"type": "tool", "name": dotted},
    )
    body = sent(document)
    names = [entry["function"]["name"] for entry in body["tools"]]

    assert len(set(names)) == 3
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    assert names[1] == "a_b"  # what is legal keeps its name
    assert re.fullmatch(r"x*[a-z_]+x*_[0-9a-f]{8}", names[2])
    assert body["tool_choice"]["function"]["name"] == names[0]
    called = [c["function"]["name"] for c in body["messages"][1]["tool_calls"]]
    assert called == [names[0], names[2]]


def parameters(schema: Any, **profile: Any) -> Any:
    body = sent(asking("hi", tools=[tool("Bash", input_schema=schema)]), **profile)
    return body["tools"][0]["function"]["parameters"]


def test_q28_schemas_are_cleaned_for_the_dialect() -> None:
    standard = parameters(SCHEMA)
    assert "$schema" not in standard
    assert standard == {key: value for key, value in SCHEMA.items() if key != "$schema"}

    assert parameters(SCHEMA, schema_dialect="gemini") == {
        "type": "object",
        "properties": {
            "u": {"type": "string"},
            "d": {"type": "string", "format": "date-time"},
            "n": {"type": "number", "nullable": True},
            "c": {"enum": ["only"]},
            "r": {
                "type": "object",
                "properties": {"x": {"type": "object", "properties": {}}},
            },
            "default": {"type": "string"},
        },
    }


def test_definitions_that_speak_of_each_other_do_not_grow_without_measure() -> None:
    # As of a page of blocks that hold blocks: written out it would have more parts than atoms.
    names = [f"Block{number}" for number in range(20)]
    parts = {name: {"$ref": f"#/$defs/{name}"} for name in names}
    schema = {
        "type": "object",
        "properties": {"page": {"$ref": "#/$defs/Block0"}},
        "$defs": {name: {"type": "object", "properties": parts} for name in names},
    }

    cleaned = parameters(schema, schema_dialect="gemini")
    assert len(orjson.dumps(cleaned)) < 500_000
    assert b"$ref" not in orjson.dumps(cleaned)
    block = cleaned["properties"]["page"]["properties"]["Block1"]
    assert set(block["properties"]) == set(names)


def test_nested_schemas_are_cleaned_but_properties_keep_their_names() -> None:
    nested = {
        "type": "object",
        "properties": {
            "$id": {"type": "string"},
            "inner": {"$id": "x", "type": "object", "enum": [{"$id": 1}]},
            "list": {"type": "array", "items": {"anyOf": [{"type": "object"}]}},
        },
    }
    assert parameters(nested)["properties"] == {
        "$id": {"type": "string"},
        "inner": {"type": "object", "enum": [{"$id": 1}], "properties": {}},
        "list": {"type": "array", "items": {"anyOf": [{"type": "object", "properties": {}}]}},
    }


def test_strict_needs_the_profile_and_a_schema_that_passes() -> None:
    strict = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    cases: tuple[tuple[dict[str, Any], dict[str, Any], bool | None], ...] = (
        (strict, {"strict_tools": True}, True),
        (strict, {}, None),
        ({**strict, "required": []}, {"strict_tools": True}, None),
        ({**strict, "required": [["a"]]}, {"strict_tools": True}, None),
    )
    for schema, profile, expected in cases:
        tools = [tool("Bash", input_schema=schema, strict=True)]
        (sent_tool,) = sent(asking("hi", tools=tools), **profile)["tools"]
        assert sent_tool["function"].get("strict") is expected


DEFERRED = tool("mcp__a", defer_loading=True)
SEARCH = tool("ToolSearch")


def referenced(name: str) -> Any:
    return tool_result("s", [{"type": "tool_reference", "tool_name": name}])


DEFERRALS = {
    "nothing could ever load it": ([tool("Bash"), DEFERRED], [], ["Bash", "mcp__a"]),
    "not loaded yet": ([SEARCH, DEFERRED], [], ["ToolSearch"]),
    "loaded by a search": (
        [SEARCH, DEFERRED],
        [assistant(tool_use("s", "ToolSearch")), user(referenced("mcp__a"))],
        ["ToolSearch", "mcp__a"],
    ),
    "called before": (
        [SEARCH, DEFERRED],
        [assistant(tool_use("s", "mcp__a")), user(tool_result("s"))],
        ["ToolSearch", "mcp__a"],
    ),
    "found by a server's search": (
        [{"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}, DEFERRED],
        [
            assistant(
                {
                    "type": "tool_search_tool_result",
                    "tool_use_id": "s",
                    "content": {
                        "type": "tool_search_tool_search_result",
                        "tool_references": [{"type": "tool_reference", "tool_name": "mcp__a"}],
                    },
                }
            ),
            "b",
        ],
        ["mcp__a"],
    ),
    "added by a system message": (
        [SEARCH, DEFERRED],
        [
            {
                "role": "system",
                "content": [
                    {
                        "type": "tool_addition",
                        "tool": {"type": "tool_reference", "name": "mcp__a"},
                    }
                ],
            }
        ],
        ["ToolSearch", "mcp__a"],
    ),
    "withdrawn by a system message": (
        [tool("Bash"), tool("Read")],
        [
            {
                "role": "system",
                "content": [
                    {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Bash"}}
                ],
            }
        ],
        ["Read"],
    ),
    "defined by a system message": (
        [tool("Bash")],
        [
            {
                "role": "system",
                "content": [
                    {
                        "type": "tool_addition",
                        "tool": {"type": "tool_definition", "definition": tool("New")},
                    }
                ],
            }
        ],
        ["Bash", "New"],
    ),
}


@pytest.mark.parametrize(("tools", "history", "expected"), DEFERRALS.values(), ids=DEFERRALS)
def test_deferred_tools(tools: Any, history: Any, expected: list[str]) -> None:
    body = sent(asking("go", *history, tools=tools))

    assert [entry["function"]["name"] for entry in body["tools"]] == expected


def test_beyond_the_limit_tools_in_use_are_kept_first() -> None:
    tools = [tool(f"T{number}") for number in range(5)]
    document = asking("go", assistant(tool_use("t", "T4")), user(tool_result("t")), tools=tools)

    names = [entry["function"]["name"] for entry in sent(document, max_tools=3)["tools"]]
    assert names == ["T0", "T1", "T4"]
    assert sent(document, drop_tools=["T4"])["tools"][-1]["function"]["name"] == "T3"


def test_a_model_without_tools_is_not_asked() -> None:
    with pytest.raises(RequestRefused) as refused:
        sent(asking("hi", tools=[tool("Bash")]), supports_tools=False)

    assert not refused.value.final
    assert "tools" not in sent(asking("hi"), supports_tools=False)


CHOICES = {
    "auto": ({"type": "auto"}, "auto"),
    "any": ({"type": "any"}, "required"),
    "none": ({"type": "none"}, "none"),
    "one": (
        {"type": "tool", "name": "Bash"},
        {"type": "function", "function": {"name": "Bash"}},
    ),
    "a string": ("any", "required"),
    "one that is not offered": ({"type": "tool", "name": "gone"}, None),
    "unknown": ({"type": "odd"}, None),
    "absent": (None, None),
}


@pytest.mark.parametrize(("choice", "expected"), CHOICES.values(), ids=CHOICES)
def test_q29_tool_choice(choice: Any, expected: Any) -> None:
    body = sent(asking("hi", tools=[tool("Bash")], tool_choice=choice))

    assert body.get("tool_choice") == expected
    assert body["tools"] == [function()]


def test_a_choice_that_cannot_be_forced_is_left_to_the_model() -> None:
    def chosen(choice: dict[str, str]) -> Any:
        document = asking("hi", tools=[tool("Bash")], tool_choice=choice)
        return sent(document, force_tool_choice_auto=True)["tool_choice"]

    assert chosen({"type": "any"}) == "auto"
    assert chosen({"type": "none"}) == "none"


@pytest.mark.parametrize(("disable", "expected"), [(True, False), (False, None), (None, None)])
def test_q30_parallel_calls(disable: Any, expected: Any) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": disable}
    body = sent(asking("hi", tools=[tool("Bash")], tool_choice=choice))

    assert body["tool_choice"] == "auto"
    assert body.get("parallel_tool_calls") is expected
