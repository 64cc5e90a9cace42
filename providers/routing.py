"""Which targets may answer a call, and in which order.

Everything here is immutable and free of Django: a worker holds one `Snapshot`
in memory and answers every call from it without a query. `providers.loading`
builds a new one whenever the configuration changes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

EMPTY: Mapping[str, Any] = MappingProxyType({})
LONG_CONTEXT_SUFFIX = "[1m]"

MAX_KNOWN_MODELS = 1000
MAX_KNOWN_NAME = 200
"""Models whose targets a snapshot remembers, and how long their names may be: both are the
clients' to choose."""


class WireFormat(enum.StrEnum):
    """The API that a provider speaks."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"


class Credentials(enum.StrEnum):
    """Whose credentials a provider is called with."""

    CLIENT = "client"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Limits of one attempt, in seconds. A healthy stream has no limit as a whole.

    `first_byte` and `first_byte_stream` end with the first content of the reply
    (not streaming, streaming); `idle` is the longest silence after that.
    """

    connect: float = 10.0
    first_byte: float = 600.0
    first_byte_stream: float = 120.0
    idle: float = 120.0


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """One provider as the relay sees it: a `Provider` row, decrypted and normalised."""

    id: int
    name: str
    base_url: str
    format: WireFormat = WireFormat.ANTHROPIC
    credentials: Credentials = Credentials.OWN
    api_key: str = field(default="", repr=False)
    auth_header: str = "x-api-key"
    extra_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    retries: int = 0
    retry_first: bool = False
    return_client_401: bool = False
    limits: TimeLimits = TimeLimits()
    context_window: int | None = None
    max_output_tokens: int | None = None
    profile: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    exact_mappings: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    glob_mappings: tuple[tuple[str, str], ...] = ()

    @property
    def uses_client_credentials(self) -> bool:
        return self.credentials is Credentials.CLIENT

    def map_model(self, model: str) -> str:
        """The name of `model` at this provider: an exact match, else the longest glob, else itself.

        A `[1m]` suffix is ignored when matching, unless a mapping names it.
        """
        if not self.exact_mappings and not self.glob_mappings:
            return model
        bare = model.removesuffix(LONG_CONTEXT_SUFFIX)
        for name in (model, bare):
            if name in self.exact_mappings:
                return self.exact_mappings[name]
        for source, target in self.glob_mappings:
            pattern = source.replace("[", "[[]")  # [1m] is no class of characters
            if fnmatchcase(model, pattern) or fnmatchcase(bare, pattern):
                return target
        return model


@dataclass(frozen=True, slots=True)
class Target:
    """One provider, and the model that it will be asked for."""

    provider: ProviderSpec
    model: str

    @property
    def name(self) -> str:
        return self.provider.name


@dataclass(frozen=True, slots=True)
class Settings:
    """The `ProxySettings` row: what an operator tunes in the admin. Times in seconds."""

    max_cooldown: float = 300.0
    probe_interval: float = 300.0
    patience: float = 0.0
    call_budget: float = 280.0
    repairs: bool = True
    disabled_repairs: frozenset[str] = frozenset()
    log_error_messages: bool = True


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """One client token, known by its SHA-256."""

    id: int
    note: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole configuration at one version.

    `translates`: there is a provider of another wire format than Anthropic's, if only a disabled
    one. Then a conversation may hold thinking that this proxy has signed.
    """

    version: int = 0
    providers: tuple[ProviderSpec, ...] = ()
    tokens: Mapping[bytes, TokenSpec] = field(default_factory=dict, repr=False)
    settings: Settings = Settings()
    translates: bool = False
    _known_targets: dict[tuple[str, bool], tuple[Target, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def targets_for(
        self, model: str, *, with_client_credentials: bool, skip_client_providers: bool = False
    ) -> list[Target]:
        """The targets of a call in order: enabled providers that this client may use."""
        with_client_providers = with_client_credentials and not skip_client_providers
        key = model, with_client_providers
        known = self._known_targets.get(key)
        if known is None:
            known = tuple(
                Target(provider, provider.map_model(model))
                for provider in self.providers
                if with_client_providers or not provider.uses_client_credentials
            )
            if len(self._known_targets) < MAX_KNOWN_MODELS and len(model) <= MAX_KNOWN_NAME:
                self._known_targets[key] = known
        return list(known)

    def client_credential_providers(self) -> Iterator[ProviderSpec]:
        return (p for p in self.providers if p.uses_client_credentials)


def order_globs(mappings: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The glob mappings among `mappings`, longest pattern first, ties by name."""
    globs = ((source, target) for source, target in mappings.items() if is_glob(source))
    return tuple(sorted(globs, key=lambda pair: (-len(pair[0]), pair[0])))


def is_glob(source: str) -> bool:
    """Whether a mapping's source is a pattern. `[1m]` is a model suffix, not a character class."""
    return "*" in source or "?" in source
