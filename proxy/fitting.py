"""Whether a call fits the context of the providers that have stated theirs."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from types import MappingProxyType

from providers.routing import ProviderSpec, Target
from proxy.answers import JSON
from proxy.call import Call
from proxy.errors import error_body
from proxy.formats.estimate import estimate_input_tokens
from proxy.rectifiers.fit import fits
from proxy.wire import ErrorReply


class Fitting:
    """One call held against the providers' context windows. Estimates only if one has any."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._largest = 0

    def misfit(self, provider: ProviderSpec) -> str:
        """Why the call does not fit there, "" if it does or nothing is known."""
        window = provider.context_window
        if window is None:
            return ""
        estimate, max_tokens = self._figures
        if fits(estimate, max_tokens, window, provider.max_output_tokens).fits:
            return ""
        self._largest = max(self._largest, window)
        return f"does not fit: about {estimate} tokens, {window} maximum"

    def fitted(self, target: Target) -> Target:
        """The target, told to ask for no more output than its context has room for.

        What goes to a client-credential provider stays the client's in any case.
        """
        provider = target.provider
        if provider.context_window is None or provider.uses_client_credentials:
            return target
        known = provider.profile.get("max_output_tokens")
        asked = min(filter(None, (self._figures[1], known)), default=None)
        most = fits(self._figures[0], asked, provider.context_window, None).max_tokens
        if most is None or most == asked:
            return target
        profile = MappingProxyType({**provider.profile, "max_output_tokens": most})
        return replace(target, provider=replace(provider, profile=profile))

    def overflow(self) -> ErrorReply | None:
        """What makes Claude Code compact its conversation; None if nobody was too small."""
        if not self._largest:
            return None
        message = f"prompt is too long: {self._figures[0]} tokens > {self._largest} maximum"
        body = error_body(400, message, self._call.request_id)
        return ErrorReply(
            400, [JSON], body, "invalid_request_error", message, 400, context_overflow=True
        )

    @cached_property
    def _figures(self) -> tuple[int, int | None]:
        document = self._call.document()
        max_tokens = document.get("max_tokens")
        return estimate_input_tokens(document), max_tokens if isinstance(max_tokens, int) else None
