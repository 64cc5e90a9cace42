"""What an upstream's error says, out of all the shapes in which servers say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import unescape
from http import HTTPStatus
from typing import Any

import orjson

_MAX_TEXT = 500
_MAX_MESSAGE = 4000
_MAX_DEPTH = 4
_INVISIBLE = re.compile(r"<(script|style|head)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_KEYS = re.compile(
    r"""(?ix)
    (?<![a-z0-9]) (?: sk|pk|rk|xai|nvapi|csk|pplx ) - [a-z0-9_\-*.]{3,}
    | (?<![a-z0-9]) (?: gsk|hf|r8|tgp|ghp ) _ [a-z0-9_*]{6,}
    | AIza [a-z0-9_\-]{10,}
    | (?<![a-z0-9]) eyJ [a-z0-9_\-]{6,} \. [a-z0-9_\-.]+
    | (?<= bearer\s ) (?! (?:token|auth|credential|scheme|format)\w*\b ) [^\s"',;<>]+
    """
)
REDACTED = "[redacted]"


@dataclass(slots=True)
class Fault:
    """The message of an error, and every code, type and status that came with it, in lower case."""

    message: str = ""
    codes: list[str] = field(default_factory=list)
    raw: str = ""

    def says(self, *codes: str) -> bool:
        return any(code in self.codes for code in codes)

    @property
    def haystack(self) -> str:
        """All there is to recognise it by, in lower case."""
        return f"{self.words}\n{' '.join(self.codes)}"

    @property
    def words(self) -> str:
        """What it says, in lower case: codes are figures, too, but count nothing."""
        return f"{self.message}\n{self.raw[:_MAX_MESSAGE]}".lower()


def is_error(document: Any) -> bool:
    """Whether a decoded body is an error, whatever the HTTP status was."""
    if isinstance(document, list):
        return bool(document) and isinstance(document[0], dict) and is_error(document[0])
    if not isinstance(document, dict):
        return False
    if document.get("error") or document.get("object") == "error":
        return True
    if document.get("choices"):
        return False
    base = document.get("base_resp")
    if isinstance(base, dict) and base.get("status_code"):
        return True
    return bool(document.get("detail") or (document.get("message") and "code" in document))


def read_body(body: bytes, status: int) -> Fault:
    """The fault that an error body tells; without any, the reason phrase of the status."""
    text = body.decode("utf-8", "replace").strip()
    try:
        document = orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, (dict, list)):
        fault = read_document(document)
        fault.raw = text
    else:
        words = document if isinstance(document, str) else text
        fault = Fault(message=plain_text(words), raw=text)
    if not fault.message:
        fault.message = plain_text(text) or reason_phrase(status)
    return fault


def read_document(document: Any) -> Fault:
    """The fault in a decoded error."""
    fault = Fault()
    fault.message = _message(document, fault, 0)[:_MAX_MESSAGE]
    return fault


def redact(text: str, secret: str = "") -> str:
    """`text` without anything that looks like a key, and without `secret`."""
    if len(secret) >= 6:
        text = text.replace(secret, REDACTED)
    return _KEYS.sub(REDACTED, text)


def reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP status {status}"


def plain_text(text: str) -> str:
    """A body that is no JSON, without tags, at most 500 characters."""
    if "<" in text:
        title = _TITLE.search(text)
        body = _TAG.sub(" ", _INVISIBLE.sub(" ", text))
        text = unescape(body if body.strip() or title is None else title.group(1))
    return " ".join(text.split())[:_MAX_TEXT]


def _message(value: Any, fault: Fault, depth: int) -> str:
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str):
        return _from_text(value, fault, depth)
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return ""
    fault.codes += [
        str(value[key]).lower()
        for key in ("code", "type", "status")
        if isinstance(value.get(key), (str, int)) and not isinstance(value.get(key), bool)
    ]
    for read in (_from_error, _from_message, _from_detail, _from_base_response):
        text = read(value, fault, depth)
        if text:
            return text
    return ""


def _from_text(text: str, fault: Fault, depth: int) -> str:
    """A message, or the JSON of an error that some relay has put into one."""
    stripped = text.strip()
    if stripped.startswith(("{", "[")) and depth <= _MAX_DEPTH:
        try:
            inner = _message(orjson.loads(stripped), fault, depth + 1)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            inner = ""
        return inner or stripped
    return plain_text(stripped) if stripped.startswith("<") else stripped


def _from_error(value: Mapping[str, Any], fault: Fault, depth: int) -> str:
    error = value.get("error") or value.get("errors")  # a list, as Cloudflare has it
    if isinstance(error, dict):
        metadata = error.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None
        for nested in (raw, error.get("upstream_error")):
            text = _message(nested, fault, depth + 1)
            if text:
                _message(error, fault, _MAX_DEPTH)  # for its codes
                return text
    return _message(error, fault, depth + 1)


def _from_message(value: Mapping[str, Any], fault: Fault, depth: int) -> str:
    return _message(value.get("message"), fault, depth + 1)


def _from_detail(value: Mapping[str, Any], fault: Fault, depth: int) -> str:
    """FastAPI's `detail`: a text, or a list of `{loc, msg}`."""
    detail = value.get("detail")
    if isinstance(detail, list):
        return "; ".join(text for text in map(_located, detail) if text)
    msg = value.get("msg")
    return _message(detail, fault, depth + 1) or (msg if isinstance(msg, str) else "")


def _located(problem: Any) -> str:
    if not isinstance(problem, dict) or not isinstance(problem.get("msg"), str):
        return problem if isinstance(problem, str) else ""
    place = problem.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])


def _from_base_response(value: Mapping[str, Any], fault: Fault, depth: int) -> str:
    """MiniMax: `base_resp` with a code other than 0, in a body with HTTP 200."""
    base = value.get("base_resp")
    if not isinstance(base, dict) or not base.get("status_code"):
        return ""
    fault.codes.append(f"minimax {base['status_code']}")
    text = base.get("status_msg")
    return text if isinstance(text, str) else ""
