"""The history never lies: every call and every attempt, whatever became of it."""

from __future__ import annotations

import asyncio
import datetime
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError

from providers.models import ProxySettings
from proxy.history.logbook import Logbook
from proxy.history.records import CallRecord
from proxy.models import Attempt, RequestLog
from tests.proxy import (
    WITH_DATABASE,
    body_of,
    fallback,
    primary,
    running_proxy,
    until,
)
from tests.upstreams import (
    BLOCK,
    DELTA,
    HELLO,
    MESSAGE,
    PING,
    START,
    STOP,
    STREAM,
    FakeProvider,
    Step,
    Then,
    error_event,
    event,
    hang,
    message,
    ok,
    refuse,
    stream,
)

pytestmark = WITH_DATABASE

CALL_COLUMNS = {
    "path": "/v1/messages",
    "session_id": "session-1",
    "agent_id": "agent-1",
    "token": "the test's client",
    "model": "claude-test",
    "model_sent": "claude-test",
    "provider": "anthropic-primary",
    "fell_back": False,
    "stream": True,
    "status": 200,
    "outcome": "answered",
    "error": "",
    "input_tokens": 11,
    "output_tokens": 44,
    "cache_read_tokens": 22,
    "cache_creation_tokens": 33,
    "usage_estimated": False,
    "dropped": {},
}
NO_TOKENS = dict.fromkeys(
    ["input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens"]
)
ATTEMPT_COLUMNS = {
    "number": 1,
    "kind": "tried",
    "provider": "anthropic-primary",
    "model": "claude-test",
    "status": 200,
    "result": "200",
    "error_type": "",
    "error_message": "",
}
LIMIT = refuse(429, "slow down", "rate_limit_error")
LIMITED = {
    **ATTEMPT_COLUMNS,
    "status": 429,
    "result": "429",
    "error_type": "rate_limit_error",
    "error_message": "slow down",
}
SECOND = {**ATTEMPT_COLUMNS, "number": 2, "provider": "openrouter", "model": "mapped-1"}
FELL_BACK = {"provider": "openrouter", "model_sent": "mapped-1", "fell_back": True}
NOBODY = {**NO_TOKENS, "provider": "", "model_sent": ""}

CASES: dict[str, tuple[Step, Step, dict[str, Any], list[dict[str, Any]]]] = {
    "answered": (ok(), ok(), {}, [ATTEMPT_COLUMNS]),
    "fell back": (LIMIT, ok(), FELL_BACK, [LIMITED, SECOND]),
    "failed": (
        LIMIT,
        refuse(503, "down", "overloaded_error"),
        {**NOBODY, "outcome": "failed", "status": 503, "error": "down"},
        [
            LIMITED,
            {
                **SECOND,
                "status": 503,
                "result": "503",
                "error_type": "overloaded_error",
                "error_message": "down",
            },
        ],
    ),
    "refused": (
        refuse(400, "messages: required", "invalid_request_error"),
        ok(),
        {
            **NO_TOKENS,
            "model_sent": "",
            "outcome": "refused",
            "status": 400,
            "error": "messages: required",
        },
        [
            {
                **ATTEMPT_COLUMNS,
                "status": 400,
                "result": "400",
                "error_type": "invalid_request_error",
                "error_message": "messages: required",
            }
        ],
    ),
    "cut off": (
        stream(START, BLOCK, HELLO, Then.CUT),
        ok(),
        {"outcome": "broken", "output_tokens": 1},
        [ATTEMPT_COLUMNS],
    ),
    "said to have failed": (
        stream(START, BLOCK, error_event("api_error", "internal")),
        ok(),
        {"outcome": "broken", "error": "internal", "output_tokens": 1},
        [ATTEMPT_COLUMNS],
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_every_column_tells_what_became_of_a_call(case: str) -> None:
    first, second, columns, attempts = CASES[case]
    async with FakeProvider(first) as up, FakeProvider(second) as other:
        mappings = {"openrouter": {"claude-test": "mapped-1"}}
        async with running_proxy(primary(up), fallback(other), mappings=mappings) as proxy:
            began = datetime.datetime.now(datetime.UTC)
            headers = [
                ("x-claude-code-session-id", "session-1"),
                ("x-claude-code-agent-id", "agent-1"),
                ("ccr-request-id", "my-own-1"),
            ]
            answer = await proxy.call(body_of(), extra=headers)
            (call,) = await proxy.log(1)
            (rows,) = await proxy.attempts()
    expected = {**CALL_COLUMNS, **columns}
    if case == "cut off":
        expected["error"] = call.error
        assert call.error
    assert {name: getattr(call, name) for name in expected} == expected
    assert [{name: getattr(row, name) for name in ATTEMPT_COLUMNS} for row in rows] == attempts
    assert call.request_id == "my-own-1"
    assert (call.bytes_in, call.bytes_out) == (len(body_of()), len(answer.body))
    assert began <= call.time <= datetime.datetime.now(datetime.UTC)
    spent = sum(row.duration_ms for row in rows)
    assert spent <= call.duration_ms + len(rows)
    assert [row.started_ms for row in rows] == sorted(row.started_ms for row in rows)
    if call.provider and call.outcome != "refused":
        assert call.first_byte_ms is not None
        assert call.first_byte_ms <= call.duration_ms + 1
    else:
        assert call.first_byte_ms is None


def test_the_cases_say_something_about_every_column() -> None:
    elsewhere = {"id", "time", "request_id", "first_byte_ms", "duration_ms"}
    elsewhere |= {"bytes_in", "bytes_out", "body_hash"}
    columns = {field.name for field in RequestLog._meta.concrete_fields}
    assert columns - elsewhere == CALL_COLUMNS.keys()
    elsewhere = {"id", "call", "started_ms", "duration_ms", "repairs", "unmodified", "body_hash"}
    elsewhere |= {"headers"}
    columns = {field.name for field in Attempt._meta.concrete_fields}
    assert columns - elsewhere == ATTEMPT_COLUMNS.keys()


async def test_a_call_that_nobody_could_be_asked_for_is_recorded() -> None:
    async with running_proxy() as proxy:
        await proxy.call()
        await proxy.call(b'{"model":7}')
        first, second = await proxy.log(2)
        assert (first.outcome, first.status, first.provider) == ("refused", 502, "")
        assert (second.outcome, second.status, second.model) == ("refused", 400, "")
        assert await proxy.attempts(2) == [[], []]


async def test_calls_without_a_valid_token_are_not_recorded() -> None:
    async with running_proxy() as proxy:
        await proxy.call(headers=[("x-ccf-api-key", "sk-ccf-wrong")])
        await proxy.stop()
        assert await proxy.log(0) == []


async def test_a_client_that_left_is_recorded_with_what_it_got() -> None:
    async with FakeProvider(stream(START, BLOCK, HELLO, Then.HANG)) as up:
        async with running_proxy(primary(up)) as proxy:
            async with proxy.open() as client:
                await client.head()
                got = b""
                while len(got) < len(START + BLOCK + HELLO):
                    got += await client.chunk()
                client.leave()
            (call,) = await proxy.log(1)
            assert (call.outcome, call.error, call.status) == ("cancelled", "", 200)
            assert call.bytes_out == len(got)
            assert (call.input_tokens, call.output_tokens) == (11, 1)


def usage(**figures: object) -> dict[str, object]:
    return {"usage": figures}


@pytest.mark.parametrize(
    ("started", "ended", "expected"),
    [
        ({"input_tokens": 5}, {"output_tokens": 9}, (5, 9, None, None)),
        ({"input_tokens": 5, "output_tokens": 1}, {}, (5, 1, None, None)),
        (
            {"input_tokens": 5, "cache_read_input_tokens": 0},
            {"output_tokens": 9, "input_tokens": 6, "cache_creation_input_tokens": 2},
            (6, 9, 0, 2),
        ),
        ({"input_tokens": None}, {"output_tokens": "9"}, (None, None, None, None)),
        ({"input_tokens": True}, {"output_tokens": -1}, (None, None, None, None)),
    ],
)
async def test_usage_is_read_from_streams_and_from_messages(
    started: dict[str, Any], ended: dict[str, Any], expected: tuple[int | None, ...]
) -> None:
    start = event("message_start", message={"id": "m", **usage(**started)})
    end = event("message_delta", delta={"stop_reason": "end_turn"}, **usage(**ended))
    whole = json.loads(MESSAGE) | usage(**{**started, **ended})
    async with FakeProvider(stream(start, BLOCK, end, STOP)) as up:
        async with running_proxy(primary(up)) as proxy:
            await proxy.call()
            up.script(message(json.dumps(whole).encode()))
            await proxy.call(body_of(stream=False))
            for call in await proxy.log(2):
                found = (
                    call.input_tokens,
                    call.output_tokens,
                    call.cache_read_tokens,
                    call.cache_creation_tokens,
                )
                assert found == expected


async def test_usage_is_read_whatever_way_the_network_splits_a_stream() -> None:
    whole = b"".join([START, PING, BLOCK, HELLO, DELTA, STOP])
    pieces = [whole[i : i + 7] for i in range(0, len(whole), 7)]
    async with FakeProvider(stream(*pieces)) as up, running_proxy(primary(up)) as proxy:
        await proxy.call()
        (call,) = await proxy.log(1)
        assert (call.input_tokens, call.output_tokens) == (11, 44)


async def test_other_endpoints_are_recorded_too() -> None:
    async with FakeProvider(message(b'{"input_tokens":5}')) as up:
        async with running_proxy(primary(up)) as proxy:
            await proxy.call(target="/v1/messages/count_tokens")
            await proxy.call(method="GET", target="/v1/models")
            await proxy.call(method="GET", target="/v1/files")
            await proxy.log(3)
            calls = sorted([(c.path, c.outcome, c.status, c.provider) for c in await proxy.log(3)])
            assert calls == [
                (path, "answered", 200, "anthropic-primary")
                for path in ("/v1/files", "/v1/messages/count_tokens", "/v1/models")
            ]


async def test_texts_that_databases_refuse_are_made_fit() -> None:
    async with FakeProvider(refuse(500, "\0" + "word " * 1000 + "\0", "\0api_error")) as up:
        async with running_proxy(primary(up)) as proxy:
            model = b'{"model":"' + b"m" * 300 + b'"}'
            await proxy.call(model, extra=[("x-claude-code-session-id", "s" * 300)])
            (call,) = await proxy.log(1)
            ((attempt,),) = await proxy.attempts()
            assert "\0" not in call.model + call.error + attempt.error_message + attempt.error_type
            assert len(call.model) == 200
            assert len(call.session_id) == 128
            assert len(attempt.error_message) == 500


async def test_error_messages_are_not_kept_where_the_operator_says_so() -> None:
    settings = {"log_error_messages": False}
    step = refuse(429, "quotes the prompt", "rate_limit_error")
    async with FakeProvider(step) as up, FakeProvider(refuse(400, "too")) as other:
        async with running_proxy(primary(up), fallback(other), settings=settings) as proxy:
            await proxy.call()
            (call,) = await proxy.log(1)
            (attempts,) = await proxy.attempts()
            assert call.error == ""
            assert [(a.error_type, a.error_message) for a in attempts] == [
                ("rate_limit_error", ""),
                ("api_error", ""),
            ]


async def test_that_switch_is_in_force_without_a_restart() -> None:
    async with FakeProvider(refuse(429, "words")) as up, running_proxy(primary(up)) as proxy:
        await proxy.call()
        await sync_to_async(ProxySettings.objects.update_or_create)(
            pk=1, defaults={"log_error_messages": False}
        )
        await until(
            lambda: not proxy.runtime.snapshot.settings.log_error_messages, "it is in force"
        )
        await proxy.call()
        assert [call.error for call in await proxy.log(2)] == ["words", ""]


# --- nothing is lost, and what is lost is said --------------------------------


async def test_a_graceful_stop_loses_no_row() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        await asyncio.gather(*[proxy.call() for _ in range(50)])
        await proxy.stop()
        assert len(await proxy.log(0)) == 50


async def test_a_stream_that_outlives_the_stop_is_recorded_too() -> None:
    async with FakeProvider(stream(START, BLOCK, Then.HANG)) as up:
        async with running_proxy(primary(up), graceful=0.2) as proxy:
            async with proxy.open() as client:
                await client.head()
                await client.chunk()
                await proxy.stop()
                (call,) = await proxy.log(1)
                assert (call.outcome, call.status) == ("stopped", 200)
                await until(lambda: not up.open, "the upstream connection is closed")


@pytest.mark.parametrize("step", [hang(), stream(START, Then.HANG)], ids=["no head", "no content"])
async def test_a_stop_while_a_provider_is_asked_is_not_called_the_clients(step: Step) -> None:
    async with FakeProvider(step) as up:
        async with running_proxy(primary(up), graceful=0.2) as proxy, proxy.open():
            await until(lambda: len(up.requests) == 1, "it is asked")
            await proxy.stop()
            ((attempt,),) = await proxy.attempts()
            (call,) = await proxy.log(1)
            assert (call.outcome, attempt.result, call.status) == ("stopped", "stopped", None)


async def test_what_is_passed_through_when_the_proxy_stops_is_recorded_as_such() -> None:
    async with FakeProvider(stream(b"{", Then.HANG)) as up:
        async with running_proxy(primary(up), graceful=0.2) as proxy:
            async with proxy.open(method="GET", target="/v1/files") as client:
                await client.head()
                await client.chunk()
                await proxy.stop()
                (call,) = await proxy.log(1)
                assert call.outcome == "stopped"


async def test_a_client_that_leaves_before_a_stop_is_still_the_one_who_left() -> None:
    async with FakeProvider(stream(START, BLOCK, Then.HANG)) as up:
        async with running_proxy(primary(up), graceful=0.2) as proxy:
            async with proxy.open() as client:
                await client.head()
                client.leave()
                (call,) = await proxy.log(1)
            await proxy.stop()
            assert call.outcome == "cancelled"


async def test_a_stop_waits_for_a_stream_that_ends_in_time() -> None:
    gate = asyncio.Event()
    async with FakeProvider(stream(START, BLOCK, gate, *STREAM[3:])) as up:
        async with running_proxy(primary(up)) as proxy, proxy.open() as client:
            await client.head()
            stopping = asyncio.create_task(proxy.stop())
            gate.set()
            body = b""
            while chunk := await client.chunk():
                body += chunk
            assert body == START + b"".join(STREAM[2:])
            await stopping
            (call,) = await proxy.log(1)
            assert call.outcome == "answered"


async def test_a_stop_waits_for_calls_that_take_their_time_to_end() -> None:
    async with running_proxy() as proxy:
        with proxy.runtime.live_calls:
            stopping = asyncio.create_task(proxy.stop())
            done, _ = await asyncio.wait([stopping], timeout=0.5)
            assert not done
            proxy.runtime.keep_record(record(1))
        await stopping
        assert len(await proxy.log(0)) == 1


def record(number: int) -> CallRecord:
    return CallRecord(
        request_id=f"req_{number}",
        path="/v1/messages",
        session_id="",
        agent_id="",
        token="",
        bytes_in=0,
        keep=lambda record: None,
        outcome="answered",
    )


class Said:
    """Records the log events about lost rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost: list[tuple[int, int]] = []
        monkeypatch.setattr("proxy.history.logbook.emit", self.emit)

    def emit(self, event: str, **fields: Any) -> None:
        assert event == "logbook.lost"
        self.lost.append((fields["rows"], fields["total"]))


async def test_a_full_queue_loses_rows_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(monkeypatch)
    written: list[CallRecord] = []
    logbook = Logbook(capacity=3, write=written.extend)
    for number in range(5):
        logbook.put(record(number))
    assert (logbook.lost, said.lost) == (2, [(1, 1), (1, 2)])
    logbook.start()
    await logbook.close()
    assert [r.request_id for r in written] == ["req_0", "req_1", "req_2"]


async def test_a_broken_database_loses_rows_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said, tries = Said(monkeypatch), 0
    written: list[CallRecord] = []

    def write(batch: list[CallRecord]) -> None:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise DatabaseError("disk full")
        written.extend(batch)

    logbook = Logbook(capacity=100, write=write, retry_seconds=0)
    logbook.start()
    logbook.put(record(1))
    logbook.put(record(2))
    await until(lambda: bool(logbook.lost), "the rows are given up")
    logbook.put(record(3))
    await logbook.close()
    assert (logbook.lost, said.lost) == (2, [(2, 2)])
    assert [r.request_id for r in written] == ["req_3"]


async def test_a_database_that_recovers_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said, tries = Said(monkeypatch), 0
    written: list[CallRecord] = []

    def write(batch: list[CallRecord]) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise DatabaseError("database is locked")
        written.extend(batch)

    logbook = Logbook(capacity=100, write=write, retry_seconds=0)
    logbook.start()
    logbook.put(record(1))
    await until(lambda: bool(written), "the row is written")
    await logbook.close()
    assert (logbook.lost, said.lost, len(written)) == (0, [], 1)


async def test_calls_go_on_while_the_history_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(batch: list[CallRecord]) -> None:
        raise DatabaseError("disk full")

    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        monkeypatch.setattr(proxy.runtime.logbook, "_write", write)
        monkeypatch.setattr(proxy.runtime.logbook, "_retry_seconds", 0)
        for _ in range(5):
            assert (await proxy.call()).status == 200
        await proxy.stop()
        assert proxy.runtime.logbook.lost == 5
        assert await proxy.log(0) == []


async def test_figures_beyond_all_reason_do_not_cost_the_row() -> None:
    huge = MESSAGE.replace(b'"output_tokens": 44', b'"output_tokens": 18446744073709551615')
    async with FakeProvider(message(huge)) as up, running_proxy(primary(up)) as proxy:
        assert (await proxy.call(body_of(False))).body == huge
        (call,) = await proxy.log(1)
        assert (call.outcome, call.output_tokens) == ("answered", 2**31 - 1)


async def test_a_row_that_the_database_refuses_costs_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = Said(monkeypatch)
    written: list[str] = []

    def write(batch: list[CallRecord]) -> None:
        if any(r.request_id == "req_2" for r in batch):
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        written.extend(r.request_id for r in batch)

    logbook = Logbook(capacity=100, write=write, retry_seconds=0)
    for number in range(1, 5):
        logbook.put(record(number))
    logbook.start()
    await logbook.close()
    assert (said.lost, written) == ([(1, 1)], ["req_1", "req_3", "req_4"])
