"""Importing a configuration: what is accepted, what is refused, what is left alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from providers.loading import current_versions
from providers.models import AccessToken, ModelMapping, Provider, ProxySettings, token_digest
from providers.transfer import configuration as transfer
from providers.transfer.configuration import apply_import, plan_import
from providers.transfer.document import PROVIDER_KEYS, InvalidDocument, parse
from providers.transfer.importing import merged_order

pytestmark = pytest.mark.django_db

# As the Worker's admin panel, its JSON editor and its documentation write them.
WORKER = [
    {
        "name": "openrouter",
        "baseUrl": "https://openrouter.ai/api/v1/chat/completions",
        "apiKey": "Bearer sk-or-test",
        "authHeader": "Authorization",
        "format": "openai",
        "retry": 2,
        "modelMapping": {"claude-sonnet-4-5-20250929": "anthropic/claude-sonnet-4", "x": ""},
        "headers": {"X-Title": "Claude Code", "Host": "openrouter.ai"},
        "disabled": False,
    },
    {"name": "plain", "baseUrl": "https://api.example.com/v1/messages", "apiKey": "key-2"},
    {
        "name": "off",
        "baseUrl": "https://off.example.com",
        "apiKey": "key-3",
        "authHeader": "",
        "format": None,
        "disabled": True,
    },
]


def entry(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "baseUrl": f"https://{name}.example.com", "apiKey": f"key-{name}", **keys}


def names() -> list[str]:
    return list(Provider.objects.order_by("position", "pk").values_list("name", flat=True))


def errors(data: object, **options: Any) -> list[str]:
    """What is wrong with a document, having made sure that nothing was written."""
    version, before = current_versions().number, transfer.export_configuration(with_secrets=True)
    with pytest.raises(InvalidDocument) as raised:
        apply_import(data, **options)
    assert current_versions().number == version
    assert transfer.export_configuration(with_secrets=True) == before
    return list(raised.value.errors)


class TestTheWorkersFile:
    def test_is_accepted_as_it_is(self) -> None:
        apply_import(WORKER)

        assert names() == ["anthropic-primary", "openrouter", "plain", "off"]
        openrouter, plain, off = Provider.objects.order_by("position")[1:]
        assert openrouter.base_url == "https://openrouter.ai/api/v1/chat/completions"
        assert (openrouter.format, openrouter.retries, openrouter.enabled) == ("openai", 2, True)
        assert openrouter.auth_header == "Authorization"
        assert [(m.source, m.target) for m in openrouter.mappings.all()] == [
            ("claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4")
        ]
        assert (plain.api_key, plain.auth_header, plain.credentials) == (
            "key-2",
            "x-api-key",
            "own",
        )
        assert (off.enabled, off.auth_header, off.format) == (False, "x-api-key", "anthropic")

    def test_may_write_the_scheme_into_the_key(self) -> None:
        apply_import(WORKER)
        assert Provider.objects.get(name="openrouter").api_key == "sk-or-test"

    def test_headers_that_the_worker_strips_are_left_out_and_mentioned(self) -> None:
        plan = apply_import(WORKER)
        assert Provider.objects.get(name="openrouter").extra_headers == {"X-Title": "Claude Code"}
        assert plan.notes == ["providers[0]: headers: Host: ignored"]

    def test_does_not_touch_the_callers_data(self) -> None:
        before = json.dumps(WORKER)
        apply_import(WORKER)
        assert json.dumps(WORKER) == before

    @pytest.mark.parametrize(
        "tokens",
        [
            ["sk-cc-abcdefghijklm", "short"],
            [{"token": "sk-cc-abcdefghijklm", "note": ""}, {"token": "short"}],
        ],
    )
    def test_of_tokens_is_accepted_too(self, tokens: list[Any]) -> None:
        apply_import(tokens)
        found = AccessToken.objects.order_by("pk").values_list("digest", "note", "hint", "enabled")
        assert list(found) == [
            (token_digest("sk-cc-abcdefghijklm"), "imported", "jklm", True),
            # The end of a short token would give too much of it away.
            (token_digest("short"), "imported", "", True),
        ]

    def test_parts_without_a_counterpart_are_ignored_and_mentioned(self) -> None:
        plan = plan_import({"rectifier": {"enabled": True}, "debug": False})
        assert plan.changes == []
        assert plan.notes == ["rectifier: ignored", "debug: ignored"]

    def test_that_names_a_provider_like_the_primary_does_not_get_the_clients_credentials(
        self,
    ) -> None:
        assert errors([entry("anthropic-primary")]) == [
            "providers[0] (anthropic-primary): credentials: the provider of this name is called "
            'with the client\'s own credentials: say "client" or "own"'
        ]


class TestProviders:
    def test_have_a_key_for_every_field(self) -> None:
        fields = {field.name for field in Provider._meta.concrete_fields}
        assert {field.name for field in PROVIDER_KEYS.values()} == fields - {"id", "position"}

    def test_take_every_key(self) -> None:
        full = entry(
            "full",
            credentials="own",
            profile={"images": False},
            retry=3,
            retryFirst=True,
            onClient401="return",
            connectLimit=5,
            firstByteStreamLimit=30.5,
            firstByteLimit=300,
            idleLimit=60,
        )
        apply_import({"providers": [full]})
        row = Provider.objects.get(name="full")
        assert row.profile == {"images": False}
        assert (row.retries, row.retry_first, row.on_client_401) == (3, True, "return")
        assert (row.connect_limit, row.first_byte_stream_limit) == (5, 30.5)
        assert (row.first_byte_limit, row.idle_limit) == (300, 60)

    def test_are_updated_by_name_and_keep_what_is_absent(self) -> None:
        apply_import([entry("a", headers={"X-A": "1"}, modelMapping={"m": "n"}, retry=4)])
        key = Provider.objects.get(name="a").pk

        plan = apply_import([{"name": "a", "baseUrl": "https://new.example.com"}])

        row = Provider.objects.get(name="a")
        assert row.pk == key
        assert row.base_url == "https://new.example.com"
        assert (row.api_key, row.retries, row.extra_headers) == ("key-a", 4, {"X-A": "1"})
        assert row.mappings.get().target == "n"
        assert plan.changes == [
            'change provider a: baseUrl "https://a.example.com" -> "https://new.example.com"'
        ]

    def test_get_exactly_the_mapping_of_the_file(self) -> None:
        apply_import([entry("a", modelMapping={"old": "1", "kept": "2", "changed": "3"})])
        kept = ModelMapping.objects.get(source="kept").pk
        apply_import([{"name": "a", "modelMapping": {"kept": "2", "changed": "4", "new": "5"}}])
        found = {m.source: m.target for m in ModelMapping.objects.filter(provider__name="a")}
        assert found == {"kept": "2", "changed": "4", "new": "5"}
        assert ModelMapping.objects.get(source="kept").pk == kept

    def test_that_the_file_lacks_stay(self) -> None:
        apply_import([entry("a"), entry("b")])
        apply_import([entry("c")])
        assert names() == ["anthropic-primary", "a", "b", "c"]

    def test_that_the_file_lacks_go_when_replacing_except_the_primary(self) -> None:
        apply_import({"providers": [entry("a"), entry("b")], "tokens": ["token-1"]})
        plan = apply_import([entry("b"), entry("c")], replace=True)
        assert names() == ["anthropic-primary", "b", "c"]
        assert "remove provider a" in plan.changes
        assert AccessToken.objects.count() == 1  # the file has no such section

    def test_take_the_order_of_the_file(self) -> None:
        apply_import([entry("a"), entry("b"), entry("c")])
        plan = apply_import([{"name": "c"}, {"name": "a"}, entry("n")])
        assert names() == ["anthropic-primary", "c", "b", "a", "n"]
        assert plan.changes[-1] == "order: anthropic-primary, c, b, a, n"

    def test_keep_their_place_when_one_of_them_is_changed(self) -> None:
        apply_import([entry("a"), entry("b"), entry("c")])
        apply_import([{"name": "b", "disabled": True}])
        assert names() == ["anthropic-primary", "a", "b", "c"]


class TestThePrimary:
    def test_is_changed_by_its_own_section(self) -> None:
        apply_import({"primary": {"baseUrl": "https://gateway.example.com", "disabled": True}})
        row = Provider.objects.get()
        assert (row.name, row.enabled) == ("anthropic-primary", False)
        assert (row.base_url, row.credentials) == ("https://gateway.example.com", "client")

    def test_may_be_renamed(self) -> None:
        apply_import({"primary": {"name": "corporate"}})
        assert names() == ["corporate"]

    def test_is_made_where_there_is_none(self) -> None:
        Provider.objects.all().delete()
        apply_import({"primary": {"disabled": False}, "providers": [entry("a")]})
        assert names() == ["anthropic-primary", "a"]
        assert Provider.objects.get(name="anthropic-primary").credentials == "client"

    def test_is_not_made_only_to_be_disabled(self) -> None:
        Provider.objects.all().delete()
        assert apply_import({"primary": {"disabled": True}}).changes == []

    def test_comes_first_where_it_is_named_as_such(self) -> None:
        primary = Provider.objects.get()
        apply_import({"providers": [entry("a"), {"name": primary.name}]})
        assert names() == ["a", "anthropic-primary"]
        apply_import({"primary": {"name": "anthropic-primary"}})
        assert names() == ["anthropic-primary", "a"]

    def test_never_becomes_one_that_has_a_key_of_its_own(self) -> None:
        apply_import([entry("a")])
        wrong = (
            "primary: credentials: the primary is called with the client's own credentials: "
            '"client"'
        )
        assert errors({"primary": {"name": "a"}}) == [wrong]
        assert errors({"primary": {"credentials": "own", "apiKey": "k"}}) == [wrong]

    def test_cannot_be_listed_twice(self) -> None:
        listed = {"name": "anthropic-primary"}
        assert errors({"primary": listed, "providers": [listed]}) == [
            "primary: name: one of the providers has this name"
        ]


class TestTokens:
    def test_are_known_by_their_hash(self) -> None:
        digest = token_digest("sk-ccf-0123456789abcdef")
        apply_import({"tokens": [{"token": "sk-ccf-0123456789abcdef", "note": "laptop"}]})
        apply_import({"tokens": [{"sha256": digest.upper(), "note": "desk", "disabled": True}]})
        row = AccessToken.objects.get()
        assert (row.digest, row.note, row.hint, row.enabled) == (digest, "desk", "cdef", False)

    def test_that_the_file_lacks_go_when_replacing(self) -> None:
        apply_import({"tokens": ["one", "two"]})
        apply_import({"tokens": ["two"]}, replace=True)
        assert AccessToken.objects.get().digest == token_digest("two")


class TestSettings:
    def test_are_set_and_the_absent_ones_kept(self) -> None:
        ProxySettings(patience=7).save()
        plan = apply_import({"settings": {"cooldownDuration": 60.0, "logErrorMessages": False}})
        row = ProxySettings.load()
        assert (row.max_cooldown, row.patience, row.log_error_messages) == (60, 7, False)
        assert plan.changes == [
            "settings: cooldownDuration 300 -> 60, logErrorMessages true -> false"
        ]


BAD = {
    "an array is expected": ({"providers": {}}, ["providers: this has to be an array"]),
    "neither shape": ("text", ["an object, or an array of providers, is needed"]),
    "unknown section": (
        {"provider": []},
        ['provider: unknown key; the nearest known one is "providers"'],
    ),
    "unknown key": (
        [entry("a", baseURL="x")],
        ['providers[0] (a): baseURL: unknown key; the nearest known one is "baseUrl"'],
    ),
    "unknown setting": (
        {"settings": {"patients": 3}},
        ['settings: patients: unknown key; the nearest known one is "patience"'],
    ),
    "no object": ([5], ["providers[0]: this has to be an object"]),
    "no name": ([{"baseUrl": "https://x"}], ["providers[0]: name: a provider needs a name"]),
    "same name": (
        [entry("a"), entry("a ")],
        ["providers[1] (a): name: providers[0] (a) has the same name"],
    ),
    "no base URL": (
        [{"name": "a", "apiKey": "k"}],
        ["providers[0] (a): baseUrl: a new provider needs one"],
    ),
    "not a URL": (
        [entry("a"), entry("b", baseUrl="b.example.com")],
        ["providers[1] (b): baseUrl: The URL has to begin with https:// or http://."],
    ),
    "no key": (
        [{"name": "a", "baseUrl": "https://x"}],
        [
            "providers[0] (a): apiKey: A provider that does not use the client's credentials "
            "needs a key."
        ],
    ),
    "redacted key of a new provider": (
        [entry("a", apiKey="[redacted]")],
        [
            "providers[0] (a): apiKey: it is redacted, and there is no stored value; "
            "export it with --with-secrets"
        ],
    ),
    "redacted header of a new provider": (
        [entry("a", headers={"X-A": "[redacted]"})],
        [
            "providers[0] (a): headers: X-A: it is redacted, and there is no stored value; "
            "export it with --with-secrets"
        ],
    ),
    "unknown format": (
        [entry("a", format="gemini")],
        ["providers[0] (a): format: Value 'gemini' is not a valid choice."],
    ),
    "wrong types": (
        [entry("a", retry="2", disabled=0, headers=[], idleLimit=True, authHeader=1)],
        [
            "providers[0] (a): retry: this has to be a whole number",
            "providers[0] (a): disabled: this has to be true or false",
            "providers[0] (a): headers: this has to be an object",
            "providers[0] (a): idleLimit: this has to be a number",
            "providers[0] (a): authHeader: this has to be text",
        ],
    ),
    "numbers out of range": (
        [entry("a", retry=11, idleLimit=0, connectLimit=10**400)],
        [
            "providers[0] (a): connectLimit: this has to be a number",
            "providers[0] (a): retry: Ensure this value is less than or equal to 10.",
            "providers[0] (a): idleLimit: Ensure this value is greater than or equal to 0.1.",
        ],
    ),
    "mapping of a wrong shape": (
        [entry("a", modelMapping={"m": 1})],
        ["providers[0] (a): modelMapping: this has to be an object of model names"],
    ),
    "mapping too long": (
        [entry("a", modelMapping={"m": "n" * 201})],
        [
            "providers[0] (a): modelMapping: m: target: Ensure this value has at most 200 "
            "characters (it has 201)."
        ],
    ),
    "reserved header": (
        {"providers": [entry("a", headers={"Host": "x"})]},
        ["providers[0] (a): headers: “Host” is set by the proxy itself."],
    ),
    "token without itself": (
        {"tokens": [{"note": "x"}, {"token": "a", "sha256": "b"}]},
        [
            'tokens[0]: either "token" or "sha256" is needed',
            'tokens[1]: either "token" or "sha256" is needed',
        ],
    ),
    "tokens that are none": (
        {"tokens": [7, {"token": "ä"}, {"sha256": "beef"}, {"token": ""}]},
        [
            "tokens[0]: this has to be an object",
            "tokens[1]: token: this has to be printable ASCII text",
            "tokens[2]: sha256: this has to be 64 hexadecimal digits",
            "tokens[3]: token: this has to be printable ASCII text",
        ],
    ),
    "token twice": (
        {"tokens": ["a", {"sha256": token_digest("a")}]},
        ["tokens[1]: tokens[0] is the same token"],
    ),
    "all sections at once": (
        {
            "primary": {"baseUrl": "ftp://x"},
            "providers": [entry("a", nmae="a")],
            "tokens": [{}],
            "settings": {"probeInterval": 0},
        },
        [
            "primary: baseUrl: The URL has to begin with https:// or http://.",
            'providers[0] (a): nmae: unknown key; the nearest known one is "name"',
            'tokens[0]: either "token" or "sha256" is needed',
            "settings: probeInterval: Ensure this value is greater than or equal to 1.",
        ],
    ),
}


@pytest.mark.parametrize(("data", "expected"), BAD.values(), ids=BAD.keys())
def test_an_invalid_document_changes_nothing_and_every_error_is_named(
    data: object, expected: list[str]
) -> None:
    assert errors(data) == expected


def test_a_number_that_the_database_does_not_hold_is_refused() -> None:
    (line,) = errors({"settings": {"cooldownDuration": 10**30}})
    assert line.startswith("settings: cooldownDuration: Ensure this value is less than or equal")


UNREADABLE = {
    "syntax": (b'{"a": 1,}', "this is not JSON: "),
    "not text": (b"\xff\xfe\x00", "this is not a UTF-8 text file"),
    "a key twice": (b'[{"name": "a", "name": "b"}]', 'the key "name" is given twice'),
    "no number": (b'{"settings": {"patience": NaN}}', "NaN is not a JSON value"),
    "half a character": (b'{"providers": [{"name": "\\ud800"}]}', "text must not hold NUL"),
    "NUL": (b'{"x": {"\\u0000": 1}}', "text must not hold NUL"),
    "depth": (b"[" * 100_000, "this is nested too deeply"),
    "endless number": (b"1" * 10_000, "this is nested too deeply, or holds an endless number"),
}


@pytest.mark.parametrize(("text", "expected"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_document_is_one_line(text: bytes, expected: str) -> None:
    with pytest.raises(InvalidDocument) as raised:
        parse(text)
    (line,) = raised.value.errors
    assert line.startswith(expected)


def test_a_byte_order_mark_is_no_error() -> None:
    assert parse(b"\xef\xbb\xbf[]") == []


def test_importing_the_same_again_changes_nothing() -> None:
    document = {"providers": [entry("a", modelMapping={"m": "n"})], "tokens": ["t"]}
    assert apply_import(document).changes
    version = current_versions().number
    assert apply_import(document).changes == []
    assert current_versions().number == version


@pytest.mark.parametrize(
    "document",
    [
        [entry("b")],
        [{"name": "a", "modelMapping": {}}],
        [{"name": "a", "retry": 1}],
        {"primary": {"disabled": True}},
        {"tokens": ["t"]},
        {"settings": {"patience": 1}},
    ],
)
def test_every_change_reaches_the_workers(document: object) -> None:
    apply_import([entry("a", modelMapping={"m": "n"})])
    version = current_versions().number
    apply_import(document)
    assert current_versions().number > version


def test_a_number_in_the_place_of_true_is_a_change() -> None:
    apply_import([entry("a", profile={"extra_body": {"x": True}})])
    apply_import([{"name": "a", "profile": {"extra_body": {"x": 1}}}])
    assert Provider.objects.get(name="a").profile["extra_body"]["x"] is not True


def test_a_plan_says_what_would_change_without_secrets() -> None:
    apply_import([entry("a", headers={"X-A": "secret-1"}), entry("gone")])
    plan = plan_import(
        {
            "providers": [
                {
                    "name": "a",
                    "apiKey": "secret-2",
                    "headers": {"X-A": "secret-3"},
                    "baseUrl": "https://a.example.com/?key=secret-4",
                },
                entry("n", format="openai", apiKey="secret-5"),
            ],
            "tokens": [{"token": "secret-6", "note": "laptop"}],
        },
        replace=True,
    )
    assert plan.changes == [
        'change provider a: baseUrl "https://a.example.com" -> "https://a.example.com/?...", '
        "apiKey (new value), headers (new value)",
        'add provider n ("https://n.example.com", openai)',
        "remove provider gone",
        'add token "laptop"',
    ]
    assert "secret" not in repr(plan)
    assert names() == ["anthropic-primary", "a", "gone"]


@given(st.lists(st.integers(0, 9), unique=True), st.lists(st.integers(0, 9), unique=True))
def test_an_order_holds_everything_once_and_follows_the_file(
    existing: list[int], wanted: list[int]
) -> None:
    order = merged_order(existing, wanted)
    assert sorted(order) == sorted({*existing, *wanted})
    assert [item for item in order if item in wanted] == wanted
    untouched = [item for item in existing if item not in wanted]
    assert [item for item in order if item in untouched] == untouched


class TestTheCommand:
    def test_reads_a_file_and_says_what_it_changed(self, tmp_path: Path) -> None:
        file = tmp_path / "providers.json"
        file.write_text(json.dumps([entry("a")]))
        out = io.StringIO()
        call_command("import_config", str(file), stdout=out)
        assert out.getvalue() == 'add provider a ("https://a.example.com", anthropic)\n'
        assert names() == ["anthropic-primary", "a"]

    def test_reads_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = io.BytesIO(json.dumps([entry("a")]).encode())
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=text))
        call_command("import_config", "-", stdout=io.StringIO())
        assert names() == ["anthropic-primary", "a"]

    def test_changes_nothing_in_a_dry_run(self, tmp_path: Path) -> None:
        file = tmp_path / "providers.json"
        file.write_text(json.dumps([entry("a")]))
        out = io.StringIO()
        call_command("import_config", str(file), dry_run=True, stdout=out)
        assert out.getvalue().splitlines()[-1] == "Dry run: nothing was changed."
        assert names() == ["anthropic-primary"]

    def test_lists_all_errors_one_a_line(self, tmp_path: Path) -> None:
        file = tmp_path / "providers.json"
        file.write_text(json.dumps([entry("a", retry=-1), entry("b", baseUrl="x")]))
        with pytest.raises(CommandError) as raised:
            call_command("import_config", str(file))
        assert raised.value.returncode == 1
        assert str(raised.value).splitlines() == [
            f"{file}: nothing was imported",
            "providers[0] (a): retry: Ensure this value is greater than or equal to 0.",
            "providers[1] (b): baseUrl: The URL has to begin with https:// or http://.",
        ]

    def test_names_a_file_that_is_not_there(self) -> None:
        with pytest.raises(CommandError, match=r"nowhere\.json: No such file"):
            call_command("import_config", "nowhere.json")

    def test_replaces_when_it_is_told_to(self, tmp_path: Path) -> None:
        apply_import([entry("a")])
        file = tmp_path / "providers.json"
        file.write_text(json.dumps([entry("b")]))
        call_command("import_config", str(file), replace=True, stdout=io.StringIO())
        assert names() == ["anthropic-primary", "b"]
