"""The wire format: one call there and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from providers.endpoints import chat_completions_url
from providers.routing import ProviderSpec, Target
from proxy.call import Call
from proxy.errors import AnswerLocally, RequestRefused
from proxy.formats.headers import encoded, own_auth_headers
from proxy.formats.openai_chat.context import ReplyContext
from proxy.formats.openai_chat.counting import estimate_chat_tokens
from proxy.formats.openai_chat.encoding import dump
from proxy.formats.openai_chat.errors import ErrorContext, read_error
from proxy.formats.openai_chat.limits import output_limit, stop_sequences
from proxy.formats.openai_chat.profile import Profile, profile_for
from proxy.formats.openai_chat.reasoning import asks_for_thinking
from proxy.formats.openai_chat.request import Converted, convert
from proxy.formats.openai_chat.response import as_events, message_document, read_completion
from proxy.formats.openai_chat.stream import ChatStreamReader
from proxy.formats.openai_chat.usage import Counts
from proxy.usage import Usage
from proxy.wire import ErrorReply, HeaderPairs, MessageReply, UpstreamRequest

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
UNBUFFERED = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_SAFEGUARDS = "safeguards: Extra inputs are not permitted"
"""Claude Code repeats a request without the field when it reads this."""


class OpenAIChat:
    """OpenAI's Chat Completions, for clients that speak Anthropic Messages."""

    def translate(self, call: Call, target: Target) -> tuple[UpstreamRequest, Translation]:
        """Raises `RequestRefused`, or `AnswerLocally` for a request that only warms a cache."""
        with _depth_bounded():
            document = call.document()
        if "safeguards" in document:
            raise RequestRefused(_SAFEGUARDS, final=True)
        profile = profile_for(target)
        with _depth_bounded():
            converted = convert(document, target, profile, session_id=call.session_id)
            body = dump(converted.body)
        if output_limit(document, profile) == 0:
            raise _warmed(document, call, converted)
        context = _reply_context(document, call, target, profile, converted, len(body))
        request = UpstreamRequest(
            method="POST",
            url=chat_completions_url(target.provider.base_url),
            headers=_request_headers(target.provider, profile, call.stream),
            body=body,
        )
        return request, Translation(context, converted.ledger.dropped)

    def count_tokens(self, call: Call, target: Target) -> int:
        """An estimate of the input tokens of what would be sent. Raises `RequestRefused`."""
        with _depth_bounded():
            document = {key: value for key, value in call.document().items() if key != "max_tokens"}
            return estimate_chat_tokens(convert(document, target, profile_for(target)).body)


class Translation:
    """Implements `proxy.formats.base.Translation`."""

    def __init__(self, context: ReplyContext, dropped: Mapping[str, int]) -> None:
        self.usage = Usage()
        self.dropped = dropped
        self._context = context

    def response_headers(self, headers: HeaderPairs) -> HeaderPairs:
        """Those that belong to what the client asked for; nothing of the upstream's."""
        request_id = (b"request-id", self._context.errors.request_id.encode())
        if not self._context.stream:
            return [(b"content-type", JSON), request_id]
        return [(b"content-type", EVENT_STREAM), *UNBUFFERED, request_id]

    def open_stream(self) -> ChatStreamReader:
        return ChatStreamReader(self._context, self.usage)

    def read_message(self, body: bytes) -> MessageReply:
        message, counts = read_completion(body, self._context)
        counts.record(self.usage)
        return MessageReply(dump(message), empty=not message["content"])

    def replay(self, message: MessageReply) -> bytes:
        return as_events(orjson.loads(message.body))

    def read_error(self, status: int, headers: HeaderPairs, body: bytes) -> ErrorReply:
        return read_error(status, headers, body, self._context.errors)


@contextmanager
def _depth_bounded() -> Iterator[None]:
    """JSON may be nested deeper than what we can follow."""
    try:
        yield
    except RecursionError:
        raise RequestRefused("the request is nested too deeply") from None


def _warmed(document: Mapping[str, Any], call: Call, converted: Converted) -> AnswerLocally:
    """The answer to `max_tokens: 0`, which asks for no output at all."""
    counts = Counts(input=estimate_chat_tokens(converted.body), estimated=True)
    stop = {"stop_reason": "max_tokens", "stop_sequence": None}
    message = message_document(call.model or str(document.get("model", "")), [], stop, counts)
    if call.stream:
        return AnswerLocally(as_events(message), EVENT_STREAM)
    return AnswerLocally(dump(message))


def _reply_context(
    document: Mapping[str, Any],
    call: Call,
    target: Target,
    profile: Profile,
    converted: Converted,
    body_length: int,
) -> ReplyContext:
    estimate = converted.ledger.estimate(body_length)
    thinking = document.get("thinking")
    display = thinking.get("display") if isinstance(thinking, dict) else None
    return ReplyContext(
        model=call.model or str(document.get("model", "")),
        provider=str(target.provider.id),
        profile=profile,
        errors=ErrorContext(
            request_id=call.request_id,
            provider=target.name,
            secret=target.provider.api_key,
            input_estimate=estimate,
            context_window=profile.context_window,
        ),
        stream=call.stream,
        thinking=asks_for_thinking(document),
        thinking_omitted=display == "omitted",
        stop_sequences=tuple(stop_sequences(document)),
        tool_names=converted.tool_names,
        tool_ids=converted.tool_ids,
        input_estimate=estimate,
    )


def _request_headers(provider: ProviderSpec, profile: Profile, stream: bool) -> HeaderPairs:
    """An allow-list: nothing of the client's headers goes to a provider of another format."""
    headers = {
        b"content-type": JSON,
        b"accept": b"text/event-stream" if stream else JSON,
        b"accept-encoding": b"identity",
    }
    headers |= encoded(profile.extra_headers.items())
    headers |= dict(own_auth_headers(provider))
    return list(headers.items())


OPENAI_CHAT = OpenAIChat()
