"""The conversation whose stream died avoids the provider it died on."""

from __future__ import annotations

import pytest

from providers.health import AVOID_SECONDS, Avoided, Caller
from tests.health_worker import (
    ALICE,
    ALICES,
    ALL,
    BOB,
    DOWN,
    HOUR,
    NOW,
    PRIMARY,
    SECOND,
    Worker,
    limited,
)


def test_a_session_avoids_the_provider_whose_stream_died() -> None:
    worker = Worker()
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    assert worker.allowed(ALICE) == ["second", "third"]
    avoided = worker.decide()
    assert (avoided.avoided, avoided.until) == (True, NOW + AVOID_SECONDS)
    assert "stream" in avoided.reason
    worker.now += AVOID_SECONDS
    assert worker.allowed(ALICE) == ALL


@pytest.mark.parametrize(
    "other",
    [Caller("alice", "session-b", ""), Caller("alice", "session-a", "agent-1"), BOB],
    ids=["session", "agent", "caller"],
)
def test_other_sessions_and_agents_do_not_avoid_it(other: Caller) -> None:
    worker = Worker()
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    assert worker.allowed(other) == ALL


def test_without_a_session_nothing_is_avoided() -> None:
    worker = Worker()
    worker.table.avoid(1, Caller("alice"), worker.now + AVOID_SECONDS)
    assert worker.allowed(Caller("alice")) == ALL


def test_a_session_that_would_avoid_everyone_avoids_no_one() -> None:
    worker = Worker(PRIMARY, SECOND)
    for provider in (1, 2):
        worker.table.avoid(provider, ALICE, worker.now + AVOID_SECONDS)
    assert worker.allowed(ALICE) == ["primary", "second"]


def test_an_avoided_provider_does_not_count_as_another_one() -> None:
    worker = Worker(PRIMARY, SECOND)
    worker.tell(DOWN, index=1, times=3)
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    assert worker.allowed(ALICE) == ["second"]


def test_an_avoided_provider_is_asked_when_the_other_says_it_will_be_gone_for_longer() -> None:
    worker = Worker(PRIMARY, SECOND)
    worker.tell(worker.limit(), index=1)
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    decisions = worker.admit()
    assert [(d.allowed, d.safety_valve) for d in decisions] == [(True, True), (False, False)]


def test_an_avoided_provider_is_not_probed() -> None:
    worker = limited()
    worker.grant(ALICES)
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    assert not worker.decide().allowed


def test_a_clock_put_back_does_not_prolong_avoidance() -> None:
    worker = Worker()
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    worker.now -= HOUR
    assert worker.allowed(ALICE) == ALL


def test_a_machine_whose_clock_is_behind_avoids_it_at_once() -> None:
    first, second = Worker(), Worker()
    second.now -= 30
    first.table.avoid(1, ALICE, first.now + AVOID_SECONDS)
    second.table.avoidance.load(first.table.avoidance.unshared())
    assert second.allowed(ALICE) == ["second", "third"]


def test_what_is_shared_replaces_what_a_worker_had_but_for_its_own_news() -> None:
    worker = Worker()
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    worker.table.avoidance.shared(worker.table.avoidance.unshared())
    worker.table.avoid(1, BOB, worker.now + AVOID_SECONDS)
    worker.table.avoidance.load([])
    assert worker.allowed(ALICE) == ALL
    assert worker.allowed(BOB) == ["second", "third"]


def test_what_was_prolonged_while_it_was_written_is_written_again() -> None:
    avoidance = Worker().table.avoidance
    avoidance.add(1, "session-a", "", NOW + 1)
    written = avoidance.unshared()
    avoidance.add(1, "session-a", "", NOW + 2)
    avoidance.shared(written)
    assert [avoided.until for avoided in avoidance.unshared()] == [NOW + 2]


def test_sessions_leave_a_worker_only_as_hashes() -> None:
    worker = Worker()
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    (avoided,) = worker.table.avoidance.unshared()
    assert isinstance(avoided, Avoided)
    assert len(avoided.conversation) == 32
    assert ALICE.session not in repr(worker.table.avoidance.__dict__)
