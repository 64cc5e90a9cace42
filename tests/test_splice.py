"""A mapped model changes the model's value in the body and no other byte."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats.splice import replace_string

UNTOUCHED = [
    # Everything that a decoder and an encoder in a row would change.
    '{"n":123456789012345678901234567890,"model":@}',
    '{"f":1.10,"e":1E+2,"z":-0,"model":@,"b":1.0}',
    '{"t":"\\u00e9\\/\\ud83d\\ude00\\n","model":@}',
    '{"lone":"\\ud83d","model":@}',
    '{"\\ud83d":"a key with half an emoji","model":@}',
    '{"raw":"é😀\x7f","model":@}',
    '{  "a" :\t[ 1 ,  2 ]\r\n,"model"\n:  @  , "b":{ } }  \n',
    '{"a":1,"a":2,"model":@}',
    # Other things that are called model.
    '{"x":{"model":"m"},"model":@,"y":[{"model":"m"}],"z":"model"}',
    '{"a":"\\"model\\":\\"m\\"","model":@}',
    '{"a":"ends in \\\\","model":@}',
    '{"models":"m","model":@," model":"m","Model":"m"}',
    '{"a":[[[{"model":["m"]}]]],"model":@}',
    '{"a":"}],{[:","model":@}',
    # Every way to write the key, and all of its values where it comes twice.
    '{"mod\\u0065l":@}',
    '{"\\u006D\\u006f\\u0064\\u0065\\u006c":@,"a":1}',
    '{"model":@,"a":1,"model":@}',
    '{"model":@,"mod\\u0065l":@}',
    '{"model":@}',
    '{"model":@,"last":null}',
]


@pytest.mark.parametrize("body", UNTOUCHED)
@pytest.mark.parametrize("old", ['"m"', '"claude-\\u0073onnet, {\\"}"', '""'])
@pytest.mark.parametrize("new", ["mapped", 'a "quoted" \\ name', "größer/模型"])
def test_only_the_value_changes(body: str, old: str, new: str) -> None:
    given_body = body.replace("@", old).encode()
    expected = body.replace("@", json.dumps(new, ensure_ascii=False)).encode()
    assert replace_string(given_body, "model", new) == expected


@pytest.mark.parametrize("value", ["null", "1", "[1,2]", '{"model":"m"}', "true"])
def test_a_value_of_any_kind_is_replaced(value: str) -> None:
    body = f'{{"a":0,"model":{value} ,"b":1}}'.encode()
    assert replace_string(body, "model", "x") == b'{"a":0,"model":"x" ,"b":1}'


@pytest.mark.parametrize("body", [b"{}", b'{"a":{"model":"m"}}', b' {"models":"m"}\n'])
def test_a_body_without_the_key_stays_as_it_is(body: bytes) -> None:
    assert replace_string(body, "model", "x") == body


# --- any document, in any spelling -------------------------------------------

MARK = "\ue000"
"""Stands for the model's value in a generated document; never part of a generated text."""

blanks = st.text(alphabet=" \t\r\n", max_size=2)
texts = st.text(
    alphabet=st.one_of(
        st.sampled_from('"\\/{}[]:, model\u2028é😀\n\t'),
        st.characters(exclude_characters=MARK, codec="utf-8"),
    ),
    max_size=8,
)


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """`text` as a JSON string, each character plain or escaped."""
    pieces = []
    for character in text:
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        escaped = "".join(
            f"\\u{unit:04x}"
            for unit in memoryview(character.encode("utf-16-le", "surrogatepass")).cast("H")
        )
        pieces.append(draw(st.sampled_from([plain, plain, escaped])))
    return f'"{"".join(pieces)}"'


numbers = st.sampled_from(["0", "-0", "1.10", "1e400", "9" * 40, "-1E-7", "true", "false", "null"])
values: st.SearchStrategy[str] = st.recursive(
    st.one_of(numbers, texts.flatmap(spelled), st.just('"model"')),
    lambda inner: st.one_of(
        st.lists(padded := st.builds("{}{}{}".format, blanks, inner, blanks), max_size=3).map(
            lambda items: f"[{','.join(items)}]"
        ),
        st.lists(
            st.builds(
                "{}{}{}:{}".format,
                blanks,
                st.one_of(texts, st.just("model")).flatmap(spelled),
                blanks,
                padded,
            ),
            max_size=3,
        ).map(lambda items: f"{{{','.join(items)}}}"),
    ),
    max_leaves=8,
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A JSON object with at least one top-level model, whose values are marked."""
    other_keys = texts.filter(lambda text: text != "model")
    members = draw(st.lists(st.tuples(other_keys.flatmap(spelled), values), max_size=4))
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(members)))
        members.insert(at, (draw(spelled("model")), MARK))
    return (
        draw(blanks)
        + "{"
        + ",".join(
            f"{draw(blanks)}{key}{draw(blanks)}:{draw(blanks)}{value}{draw(blanks)}"
            for key, value in members
        )
        + "}"
        + draw(blanks)
    )


def parsed(body: bytes) -> list[tuple[str, Any]]:
    """The top level as pairs: duplicate keys are kept."""
    pairs: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=list)
    return pairs


@given(document=documents(), old=values, new=texts)
def test_any_document_parses_equal_but_for_the_model_and_keeps_every_other_byte(
    document: str, old: str, new: str
) -> None:
    body = document.replace(MARK, old).encode()
    result = replace_string(body, "model", new)
    assert parsed(result) == [(k, new if k == "model" else v) for k, v in parsed(body)]
    # Every byte between the models' values is where it was.
    kept = [re.escape(piece.encode()) for piece in document.split(MARK)]
    assert re.fullmatch(rb'"(?:[^"\\]|\\.)*"'.join(kept), result)
