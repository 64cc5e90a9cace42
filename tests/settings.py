"""The project's settings, in a data directory that lives as long as the test run."""

import atexit
import os
import shutil
import tempfile

_data = tempfile.mkdtemp(prefix="fallbackproxy-tests-")
atexit.register(shutil.rmtree, _data, ignore_errors=True)

for _name in (
    "ALLOW_ANONYMOUS",
    "BEHIND_PROXY",
    "CSRF_TRUSTED_ORIGINS",
    "DATABASE_URL",
    "DEBUG",
    "LOG_LEVEL",
    "TIME_ZONE",
):
    os.environ.pop(_name, None)
os.environ["DATA_DIR"] = _data
os.environ["SECRET_KEY"] = "only-for-tests"
os.environ["ENCRYPTION_KEY"] = "dGVzdC10ZXN0LXRlc3QtdGVzdC10ZXN0LXRlc3QtdGU="
os.environ["ALLOWED_HOSTS"] = "testserver,localhost,127.0.0.1"
if "TEST_DATABASE_URL" in os.environ:
    os.environ["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]

from fallbackproxy.settings import *  # noqa: E402, F403

# A file: an in-memory database of SQLite cannot be shared between threads.
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    DATABASES["default"]["TEST"] = {"NAME": os.path.join(_data, "test.sqlite3")}  # noqa: F405, PTH118

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
os.makedirs(STATIC_ROOT, exist_ok=True)  # noqa: F405, PTH103
