"""Settings of the whole project, from the environment. Every name is in docs/configuration.md."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from fallbackproxy.secrets import kept_secret, make_data_dir

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env")


# What is none of these would count as false: a slip in BEHIND_PROXY would go unnoticed.
_YES_OR_NO = {*environ.Env.BOOLEAN_TRUE_STRINGS, "false", "off", "no", "n", "0", ""}


def _read(kind: str, name: str, default: object) -> Any:
    """One variable; a value of the wrong type is a clear error instead of a traceback."""
    try:
        if kind == "bool" and env.str(name, default="").strip().lower() not in _YES_OR_NO:
            raise ValueError(name)
        return getattr(env, kind)(name, default=default)
    except (ValueError, TypeError, LookupError):
        raise ImproperlyConfigured(f"{name}: {env.str(name)!r} is not a valid {kind}") from None


# --- where things are -------------------------------------------------------

DATA_DIR = make_data_dir(Path(_read("str", "DATA_DIR", str(BASE_DIR / "data"))).expanduser())

DEBUG = _read("bool", "DEBUG", False)

SECRET_KEY = _read("str", "SECRET_KEY", "") or kept_secret(
    DATA_DIR / "secret_key", lambda: secrets.token_urlsafe(50)
)

# Fernet keys for what is encrypted in the database. The first one encrypts,
# all of them decrypt: to rotate, put a new key in front.
ENCRYPTION_KEYS: list[str] = _read("list", "ENCRYPTION_KEY", []) or [
    kept_secret(DATA_DIR / "encryption_key", lambda: Fernet.generate_key().decode())
]
for _key in ENCRYPTION_KEYS:
    try:
        Fernet(_key)
    except ValueError:
        raise ImproperlyConfigured(
            "ENCRYPTION_KEY: not a Fernet key (32 url-safe base64-encoded bytes)"
        ) from None

# --- the proxy --------------------------------------------------------------

ALLOW_ANONYMOUS = _read("bool", "ALLOW_ANONYMOUS", False)
METRICS_PUBLIC = _read("bool", "METRICS_PUBLIC", False)
MAX_BODY_BYTES = _read("int", "MAX_BODY_BYTES", 32 * 1024 * 1024)
LOG_QUEUE_SIZE = _read("int", "LOG_QUEUE_SIZE", 20_000)
LOG_LEVEL = _read("str", "LOG_LEVEL", "INFO").upper()
if LOG_LEVEL not in logging.getLevelNamesMapping():
    raise ImproperlyConfigured(
        f"LOG_LEVEL: {LOG_LEVEL!r} is not one of DEBUG, INFO, WARNING, ERROR"
    )

# Reverse proxies whose X-Forwarded-* headers are believed: by default, those on this machine.
FORWARDED_ALLOW_IPS = _read("str", "FORWARDED_ALLOW_IPS", "127.0.0.1,::1")

# Seconds that running calls get to end when the server is stopped.
GRACEFUL_TIMEOUT = _read("int", "GRACEFUL_TIMEOUT", 30)
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORKERS = _read("int", "WEB_CONCURRENCY", _CORES)
for _name, _number in (
    ("MAX_BODY_BYTES", MAX_BODY_BYTES),
    ("LOG_QUEUE_SIZE", LOG_QUEUE_SIZE),
    ("GRACEFUL_TIMEOUT", GRACEFUL_TIMEOUT),
    ("WEB_CONCURRENCY", WORKERS),
):
    if _number < 1:
        raise ImproperlyConfigured(f"{_name}: {_number} is not a positive number")

# --- Django -----------------------------------------------------------------

ALLOWED_HOSTS: list[str] = _read("list", "ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = _read("list", "CSRF_TRUSTED_ORIGINS", [])
for _origin in CSRF_TRUSTED_ORIGINS:
    if "://" not in _origin:
        raise ImproperlyConfigured(
            f"CSRF_TRUSTED_ORIGINS: {_origin!r} needs a scheme, for example https://{_origin}"
        )

INSTALLED_APPS = [
    # Before the admin: its templates are taken first.
    "proxy.apps.ProxyConfig",
    "providers.apps.ProvidersConfig",
    "proxy.apps.AdminPagesConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "adminsortable2",
]

# The API paths do not pass through these: see fallbackproxy/handler.py.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "fallbackproxy.urls"
ASGI_APPLICATION = "fallbackproxy.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def _database() -> dict[str, Any]:
    default = f"sqlite:///{DATA_DIR / 'db.sqlite3'}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is an error below
            config: dict[str, Any] = env.db_url("DATABASE_URL", default=default)
    except (ValueError, LookupError, TypeError, ImproperlyConfigured):
        raise ImproperlyConfigured(
            "DATABASE_URL: not a database URL, for example postgres://user:password@host/name"
        ) from None
    if not config.get("ENGINE", "").endswith(("sqlite3", "postgresql")):
        raise ImproperlyConfigured(
            "DATABASE_URL: unknown kind of database; use postgres:// or sqlite:///"
        )
    if config["ENGINE"].endswith("sqlite3"):
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
        }
    elif config["ENGINE"].endswith("postgresql"):
        config["CONN_MAX_AGE"] = 0
        config.setdefault("OPTIONS", {})["pool"] = True
    return config


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
LOGIN_URL = "admin:login"

LANGUAGE_CODE = "en"
TIME_ZONE = _read("str", "TIME_ZONE", "UTC")
try:
    ZoneInfo(TIME_ZONE)
except (ValueError, LookupError, OSError):
    raise ImproperlyConfigured(f"TIME_ZONE: {TIME_ZONE!r} is not a time zone") from None
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# Behind nginx: it says which scheme and host the browser used.
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if _read("bool", "BEHIND_PROXY", False) else None
)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_PROXY_SSL_HEADER is not None
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"

# One JSON object a line on stderr. httpx and its kin may log URLs and headers
# at DEBUG: never below WARNING here.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"aborts": {"()": "fallbackproxy.logs.DeliberateAborts"}},
    "handlers": {"stderr": {"class": "fallbackproxy.logs.BackgroundStderr"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django.request": {"level": "ERROR"},
        **{name: {"level": "WARNING"} for name in ("httpx", "httpcore", "asyncio", "django.db")},
        "uvicorn": {"handlers": [], "propagate": True, "level": "WARNING"},
        "uvicorn.access": {"handlers": [], "propagate": False},
        "uvicorn.error": {
            "handlers": [],
            "propagate": True,
            "level": "WARNING",
            "filters": ["aborts"],
        },
    },
}
