"""The project's settings, in a directory of their own that is gone afterwards."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_directory = tempfile.mkdtemp(prefix="fallbackproxy-tests-")
atexit.register(shutil.rmtree, _directory, ignore_errors=True)

os.environ["DATA_DIR"] = _directory
os.environ["SECRET_KEY"] = "only-for-tests"
os.environ["ENCRYPTION_KEY"] = "dGVzdC10ZXN0LXRlc3QtdGVzdC10ZXN0LXRlc3QtdGU="
os.environ["ALLOWED_HOSTS"] = "testserver,localhost,127.0.0.1"
for _name in ("DATABASE_URL", "DEBUG", "TIME_ZONE", "BEHIND_PROXY", "CSRF_TRUSTED_ORIGINS"):
    os.environ.pop(_name, None)

from fallbackproxy.settings import *  # noqa: E402, F403
from fallbackproxy.settings import DATABASES, STATIC_ROOT  # noqa: E402

DATABASES["default"]["TEST"] = {"NAME": str(Path(_directory) / "test.sqlite3")}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_ROOT.mkdir(exist_ok=True)
