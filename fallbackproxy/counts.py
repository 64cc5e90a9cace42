"""Where the workers of one server count together, for `proxy.metrics`: a directory of small files.

Gunicorn's hooks in `gunicorn.conf.py` make it and clear it away. It lies in memory where that is
possible: a count must not wait for a disk. The files of a worker that has ended stay, or the sums
would shrink.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_OWNER = "CCF_METRICS_OWNER"


def prepare(parent: str | None) -> None:
    """Make the directory of this process, once: the configuration is read again at a reload."""
    if os.environ.get(_OWNER) == str(os.getpid()):
        return
    path = tempfile.mkdtemp(prefix="fallbackproxy-metrics-", dir=parent)
    os.environ.update({DIRECTORY: path, _OWNER: str(os.getpid())})


def restore() -> None:
    """Make it again if somebody has tidied it away: a worker that does not find it cannot start."""
    with suppress(OSError):
        Path(os.environ[DIRECTORY]).mkdir(mode=0o700, exist_ok=True)


def forget_worker(pid: int) -> None:
    """A worker has ended."""
    # Only here: the library looks for the directory when it is imported.
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]


def clear_away() -> None:
    """The server has ended."""
    if os.environ.get(_OWNER) == str(os.getpid()):
        shutil.rmtree(os.environ[DIRECTORY], ignore_errors=True)
