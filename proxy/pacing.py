"""For threads that work behind the calls' back.

There is one lock for all of Python: while such a thread holds it, a call that has just come in
waits. So they work in portions of a tenth of a millisecond or so, and rest in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

PAUSE = 0.001
"""Seconds of rest. Longer than it takes to wake up somebody who waits for the lock."""

T = TypeVar("T")


def paced(items: Iterable[T], at_once: int) -> Iterator[T]:
    """The items, with a rest after so many of them."""
    for number, item in enumerate(items):
        if number and number % at_once == 0:
            time.sleep(PAUSE)
        yield item
