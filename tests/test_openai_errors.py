"""Errors of Chat Completions providers in Anthropic's envelope."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.formats.openai_chat.errors import ErrorContext, read_error
from proxy.wire import ErrorReply, HeaderPairs
from tests.openai_dialect import asking, way_back

CONTEXT = ErrorContext("req_1", "fallback", secret="very-secret-key", input_estimate=5000)


def error(
    status: int, body: Any = b"", headers: HeaderPairs = (), context: ErrorContext = CONTEXT
) -> ErrorReply:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_error(status, headers, raw, context)


def told(reply: ErrorReply) -> str:
    message: str = orjson.loads(reply.body)["error"]["message"]
    return message


def test_e01_the_envelope_and_no_key_in_it() -> None:
    body = {
        "error": {
            "message": "Incorrect API key provided: sk-abc123",
            "type": "invalid_request_error",
            "code": "invalid_api_key",
        }
    }
    reply = error(401, body)
    assert (reply.status, reply.type, reply.upstream_status) == (401, "authentication_error", 401)
    assert orjson.loads(reply.body) == {
        "type": "error",
        "error": {
            "type": "authentication_error",
            "message": "Incorrect API key provided: [redacted] (provider fallback)",
        },
        "request_id": "req_1",
    }
    assert dict(reply.headers) == {
        b"content-type": b"application/json",
        b"request-id": b"req_1",
    }
    assert reply.message == "Incorrect API key provided: [redacted]"


SECRETS = [
    "key sk-proj-abc_DEF-123 end",
    "key sk-or-v1-0123456789abcdef end",
    "key sk-abc***********xyz end",
    "key gsk_abcdefghij end",
    "key AIzaSyA1234567890abc end",
    "key very-secret-key end",
    "key Bearer abc.def-123 end",
    "key eyJhbGciOi.eyJzdWIiOiIx.sig end",
]


@pytest.mark.parametrize("message", SECRETS)
def test_keys_are_redacted(message: str) -> None:
    cleaned = error(400, {"error": {"message": message}}).message

    assert cleaned in ("key [redacted] end", "key Bearer [redacted] end")


@pytest.mark.parametrize("message", ["ask-me", "Missing Bearer token.", "a task-list", "sk-1"])
def test_ordinary_words_are_not_redacted(message: str) -> None:
    assert error(400, {"error": {"message": message}}).message == message


STATUSES = {
    400: (400, "invalid_request_error"),
    401: (401, "authentication_error"),
    402: (402, "billing_error"),
    403: (403, "permission_error"),
    404: (404, "not_found_error"),
    405: (400, "invalid_request_error"),
    408: (504, "timeout_error"),
    409: (409, "conflict_error"),
    413: (413, "request_too_large"),
    415: (400, "invalid_request_error"),
    418: (400, "invalid_request_error"),
    422: (400, "invalid_request_error"),
    424: (400, "invalid_request_error"),
    429: (429, "rate_limit_error"),
    500: (500, "api_error"),
    501: (501, "api_error"),
    502: (502, "api_error"),
    503: (503, "overloaded_error"),
    504: (504, "timeout_error"),
    520: (520, "api_error"),
    529: (529, "overloaded_error"),
    302: (502, "api_error"),
    600: (502, "api_error"),
}


@pytest.mark.parametrize("status", STATUSES)
def test_e03_statuses(status: int) -> None:
    reply = error(status, {"error": {"message": "m"}})

    assert (reply.status, reply.type) == STATUSES[status]
    assert (reply.message, reply.upstream_status) == ("m", status)
    assert reply.rate_limited is (status == 429)


def test_e02_when_to_come_back_is_kept() -> None:
    reply = error(429, {"error": {"message": "slow"}}, [(b"retry-after", b"7"), (b"x", b"y")])

    assert dict(reply.headers)[b"retry-after"] == b"7"
    assert b"x" not in dict(reply.headers)


WORDINGS: dict[str, tuple[int, Any, int, str]] = {
    "E02 no money": (
        429,
        {"error": {"message": "m", "code": "insufficient_quota"}},
        402,
        "billing_error",
    ),
    "no balance": (429, {"error": {"message": "Insufficient balance"}}, 402, "billing_error"),
    "Gemini's limit per minute speaks of billing": (
        429,
        {
            "error": {
                "code": 429,
                "message": "You exceeded your current quota, please check your plan and billing",
                "status": "RESOURCE_EXHAUSTED",
            }
        },
        429,
        "rate_limit_error",
    ),
    "tokens per minute as too large": (
        413,
        {"error": {"message": "Request too large on tokens per minute (TPM): Limit 6000"}},
        429,
        "rate_limit_error",
    ),
    "a rate limit as 400": (
        400,
        {"error": {"message": "reduce the length of the messages", "code": "rate_limit_exceeded"}},
        429,
        "rate_limit_error",
    ),
}


@pytest.mark.parametrize(("status", "body", "expected", "kind"), WORDINGS.values(), ids=WORDINGS)
def test_the_wording_decides_between_limits(
    status: int, body: Any, expected: int, kind: str
) -> None:
    reply = error(status, body)

    assert (reply.status, reply.type) == (expected, kind)
    assert reply.rate_limited is (kind == "rate_limit_error")
    assert not reply.context_overflow


SHAPES: dict[str, tuple[Any, str]] = {
    "E06 Google": ([{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}], "m"),
    "E06 FastAPI": ({"detail": [{"loc": ["body", "x"], "msg": "bad"}]}, "body.x: bad"),
    "FastAPI, a text": ({"detail": "bad"}, "bad"),
    "E06 Ollama": ({"error": "model not found"}, "model not found"),
    "E06 Mistral": ({"object": "error", "message": "m"}, "m"),
    "OpenRouter": (
        {
            "error": {
                "message": "Provider returned error",
                "metadata": {"raw": '{"error":{"message":"the real one"}}'},
            }
        },
        "the real one",
    ),
    "OpenRouter, raw is text": (
        {"error": {"message": "Provider returned error", "metadata": {"raw": "plain"}}},
        "plain",
    ),
    "OpenRouter, raw is empty": (
        {"error": {"message": "m", "metadata": {"raw": "", "provider_name": "x"}}},
        "m",
    ),
    "a relay's upstream error": (
        {"error": {"message": "outer", "upstream_error": {"error": {"message": "inner"}}}},
        "inner",
    ),
    "JSON in a message": ({"error": {"message": '{"error":{"message":"inner"}}'}}, "inner"),
    "JSON in a message that says nothing": ({"error": {"message": '{"a":1}'}}, '{"a":1}'),
    "an error in an error": ({"error": {"error": {"message": "deep"}}}, "deep"),
    "msg": ({"code": 1, "msg": "m"}, "m"),
    "MiniMax": ({"base_resp": {"status_code": 1002, "status_msg": "m"}}, "m"),
    "Cloudflare": ({"errors": [{"message": "m", "code": 7}], "success": False}, "m"),
    "a text as JSON": ("m", "m"),
    "no message anywhere": ({"odd": 1}, '{"odd":1}'),
    "E04 HTML": (
        b"<html><head><title>502</title><style>x{}</style></head><body><h1>Bad &amp; "
        b"gateway</h1></body></html>",
        "Bad & gateway",
    ),
    "HTML in a message": ({"error": {"message": "<html><b>down</b></html>"}}, "down"),
    "text": (b"upstream connect error", "upstream connect error"),
    "E04 nothing": (b"", "Bad Gateway"),
    "half of a JSON body": (b'{"error":{"mess', '{"error":{"mess'),
    "bytes that are no text": (b"\xff\xfe down", "\ufffd\ufffd down"),
}


@pytest.mark.parametrize(("body", "message"), SHAPES.values(), ids=SHAPES)
def test_the_message_is_found_in_every_shape(body: Any, message: str) -> None:
    reply = error(502, body)

    assert reply.message == message
    assert told(reply) == f"{message} (provider fallback)"


def test_e04_pages_are_cut() -> None:
    assert len(error(502, b"<p>" + b"long " * 1000).message) == 500


def nested(depth: int) -> Any:
    body: Any = {"error": {"message": "deep"}}
    for _ in range(depth):
        body = {"error": {"upstream_error": body}}
    return body


def test_an_error_nested_without_end_is_no_crash() -> None:
    assert error(500, nested(60)).status == 500


OVERFLOWS: dict[str, tuple[int, Any, str]] = {
    "E07 OpenAI": (
        400,
        "This model's maximum context length is 128000 tokens. However, your messages resulted "
        "in 130000 tokens. Please reduce the length of the messages.",
        "prompt is too long: 130000 tokens > 128000 maximum",
    ),
    "E08 Google": (
        400,
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
        "prompt is too long: 1196265 tokens > 1048575 maximum",
    ),
    "E08 llama.cpp": (
        400,
        "the request exceeds the available context size, try increasing it",
        "prompt is too long",
    ),
    "xAI": (
        400,
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "prompt is too long: 537812 tokens > 131072 maximum",
    ),
    "Kimi": (
        400,
        "Invalid request: Your request exceeded model token limit: 131072 (requested: 200000)",
        "prompt is too long: 200000 tokens > 131072 maximum",
    ),
    "Qwen": (
        400,
        "Range of input length should be [1, 30720]",
        "prompt is too long: 30721 tokens > 30720 maximum",
    ),
    "a template's failure": (
        500,
        "prompt too long; exceeded max context length by 12 tokens",
        "prompt is too long",
    ),
    "with commas": (
        413,
        "This model's maximum context length is 8,192 tokens. However, your messages resulted in "
        "10,000 tokens.",
        "prompt is too long: 10000 tokens > 8192 maximum",
    ),
    "input and output together": (
        400,
        "This endpoint's maximum context length is 100000 tokens. However, you requested 107837 "
        "tokens (99645 in the messages, 8192 in the completion).",
        "input length and `max_tokens` exceed context limit: 99645 + 8192 > 100000",
    ),
    "vLLM, input and output together": (
        400,
        "'max_tokens' is too large: 32000. This model's maximum context length is 32768 tokens and "
        "your request has 15000 input tokens (32000 > 32768 - 15000).",
        "input length and `max_tokens` exceed context limit: 15000 + 32000 > 32768",
    ),
    "llama-cpp-python": (
        400,
        "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens "
        "(2990 in the messages, 10 in the completion). Please reduce the length of the messages or "
        "completion.",
        "prompt is too long: 3000 tokens > 2048 maximum",
    ),
    "llama-cpp-python, from the library": (
        500,
        "Requested tokens (3000) exceed context window of 2048",
        "prompt is too long: 3000 tokens > 2048 maximum",
    ),
    "LiteLLM": (
        400,
        "litellm.ContextWindowExceededError: litellm.BadRequestError: too much\nmodel=x. "
        "context_window_fallbacks=None. fallbacks=None.",
        "prompt is too long",
    ),
    "vLLM, a decoder": (
        400,
        "The decoder prompt (length 34567) is longer than the maximum model length of 32768. Make "
        "sure that `max_model_len` is no smaller than the number of text tokens.",
        "prompt is too long: 34567 tokens > 32768 maximum",
    ),
    "OpenAI, a configured limit": (
        400,
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in "
        "300000 tokens.",
        "prompt is too long: 300000 tokens > 272000 maximum",
    ),
    "Copilot": (
        400,
        "prompt token count of 140000 exceeds the limit of 128000",
        "prompt is too long: 140000 tokens > 128000 maximum",
    ),
    "Cerebras": (
        400,
        "Please reduce it. Current length is 9000 while limit is 8192",
        "prompt is too long: 9000 tokens > 8192 maximum",
    ),
    "TGI": (
        422,
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 "
        "`inputs` tokens and 100 `max_new_tokens`",
        "prompt is too long: 5000 tokens > 4096 maximum",
    ),
    "TGI, input and output together": (
        422,
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 "
        "`inputs` tokens and 100 `max_new_tokens`",
        "input length and `max_tokens` exceed context limit: 4000 + 100 > 4096",
    ),
    "Cohere": (
        400,
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292.",
        "prompt is too long: 4292 tokens > 4081 maximum",
    ),
    "a relay to Anthropic": (
        400,
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000",
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000",
    ),
    "the input alone is too long, and says all": (
        400,
        "This model's maximum context length is 4096 tokens. However, you requested 13000 tokens "
        "(12000 in the messages, 1000 in the completion).",
        "prompt is too long: 13000 tokens > 4096 maximum",
    ),
}


@pytest.mark.parametrize(("status", "message", "expected"), OVERFLOWS.values(), ids=OVERFLOWS)
def test_e07_a_full_context_is_worded_so_that_the_client_compacts(
    status: int, message: str, expected: str
) -> None:
    reply = error(status, {"error": {"message": message}})

    assert (reply.status, reply.type) == (400, "invalid_request_error")
    assert reply.context_overflow
    assert told(reply) == f"{expected} (provider fallback)"
    assert reply.message == message


def test_a_full_context_is_known_by_its_code_and_by_numbers_beside_the_message() -> None:
    coded = error(400, {"error": {"message": "too much", "code": "context_length_exceeded"}})
    assert coded.context_overflow

    llama = {
        "error": {
            "message": "the request exceeds the available context size",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 9000,
            "n_ctx": 4096,
        }
    }
    assert told(error(400, llama)).startswith("prompt is too long: 9000 tokens > 4096 maximum")


def test_a_code_is_no_number_of_tokens() -> None:
    fault = {"status_code": 2013, "status_msg": "invalid params, context window exceeds limit"}
    assert told(error(400, {"base_resp": fault})) == "prompt is too long (provider fallback)"


def test_missing_numbers_come_from_the_profile_and_the_estimate() -> None:
    translation = way_back(asking("word " * 4000), context_window=4096)
    body = b'{"error":{"message":"the request exceeds the available context size"}}'

    message = told(translation.read_error(400, (), body))
    size = int(message.removeprefix("prompt is too long: ").partition(" ")[0])
    assert size > 4096
    assert message.startswith(f"prompt is too long: {size} tokens > 4096 maximum")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_other_refusals_are_no_full_context_whatever_they_say(status: int) -> None:
    assert not error(status, {"error": {"message": "prompt is too long"}}).context_overflow
