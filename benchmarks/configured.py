"""Importing this sets Django up, in a data directory that lives as long as the process."""

from __future__ import annotations

import os
import tempfile

import django

_data = tempfile.TemporaryDirectory(prefix="fallbackproxy-benchmark-")
os.environ["DATA_DIR"] = _data.name
os.environ["LOG_LEVEL"] = "INFO"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fallbackproxy.settings")
django.setup()
