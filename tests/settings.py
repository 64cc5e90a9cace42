"""The project's settings, with a data directory of its own for every test run."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_directory = tempfile.mkdtemp(prefix="fallbackproxy-tests-")
atexit.register(shutil.rmtree, _directory, ignore_errors=True)

for _name in ("ALLOWED_HOSTS", "DATABASE_URL", "DEBUG", "ENCRYPTION_KEY", "SECRET_KEY"):
    os.environ.pop(_name, None)
os.environ["DATA_DIR"] = _directory

from fallbackproxy.settings import *  # noqa: E402, F403
from fallbackproxy.settings import DATABASES  # noqa: E402

# A file, because threads with connections of their own cannot share a database in memory.
DATABASES["default"]["TEST"] = {"NAME": str(Path(_directory) / "test.sqlite3")}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
