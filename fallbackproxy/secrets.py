"""Secrets that are generated on the first run and kept in the data directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def make_data_dir(path: Path) -> Path:
    """Create the data directory, readable by its owner alone."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"DATA_DIR {path} cannot be created: {error.strerror}. "
            "Set DATA_DIR to a directory that this user may write to."
        ) from None
    return path


def kept_secret(path: Path, generate: Callable[[], str]) -> str:
    """The secret in `path`, generated at the first call. The file has mode 0600.

    Two processes that start at once agree: the file appears whole or not at
    all, and whoever comes second reads what the first has written.
    """
    try:
        if path.exists():
            return path.read_text().strip()
        draft = path.with_name(f"{path.name}.{os.getpid()}.new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(generate() + "\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"{path} cannot be read or written: {error.strerror}. "
            "Set DATA_DIR to a directory that this user may write to."
        ) from None
