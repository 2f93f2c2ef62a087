from types import SimpleNamespace
from typing import Any

import pytest
from kafka.coordinator.heartbeat import Heartbeat
from kafka.structs import MemberState

from ingest.consumer.lease import Lease
from tests.clock import Clock

SESSION_S = 10.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("kafka.coordinator.heartbeat.time", clock)
    return clock


@pytest.fixture
def member(clock: Clock) -> Any:
    """The parts of a coordinator that are leant on, with kafka-python's own heartbeat."""
    return SimpleNamespace(
        state=MemberState.UNJOINED,
        heartbeat=Heartbeat(),
        _process_join_group_response=lambda response, sent_at: response,
        _enable_heartbeat=lambda: None,
    )


def join(member: Any) -> None:
    member.state = MemberState.REBALANCING
    assert member._process_join_group_response("joined", 0.0) == "joined"
    member.state = MemberState.STABLE
    member._enable_heartbeat()


def test_a_lease_begins_with_the_join(member: Any, clock: Clock) -> None:
    lease = Lease(SimpleNamespace(_coordinator=member), SESSION_S, clock.monotonic)
    assert not lease.holds()
    join(member)
    assert lease.holds()


def test_a_lease_lasts_for_a_session_from_the_sending_of_the_last_heartbeat_that_was_answered(
    member: Any, clock: Clock
) -> None:
    lease = Lease(SimpleNamespace(_coordinator=member), SESSION_S, clock.monotonic)
    join(member)
    clock.now += 8
    member.heartbeat.sent_heartbeat()
    clock.now += 3
    assert not lease.holds()
    member.heartbeat.received_heartbeat()
    assert lease.holds()
    clock.now += 7
    assert not lease.holds()


def test_an_answer_that_lay_in_the_socket_of_a_frozen_worker_renews_nothing(member: Any, clock: Clock) -> None:
    lease = Lease(SimpleNamespace(_coordinator=member), SESSION_S, clock.monotonic)
    join(member)
    member.heartbeat.sent_heartbeat()
    clock.now += 60
    member.heartbeat.received_heartbeat()
    assert not lease.holds()


def test_a_member_that_looks_for_its_coordinator_is_no_surer_than_before(member: Any, clock: Clock) -> None:
    """kafka-python's own `session_timeout_expired` begins anew with each coordinator found."""
    lease = Lease(SimpleNamespace(_coordinator=member), SESSION_S, clock.monotonic)
    join(member)
    clock.now += 11
    member.heartbeat.reset_timeouts()
    assert not member.heartbeat.session_timeout_expired()
    assert not lease.holds()


def test_a_join_s_answer_that_lay_in_the_socket_of_a_frozen_worker_renews_nothing(member: Any, clock: Clock) -> None:
    lease = Lease(SimpleNamespace(_coordinator=member), SESSION_S, clock.monotonic)
    member.state = MemberState.REBALANCING
    member._process_join_group_response("joined", 0.0)
    clock.now += 60
    member.state = MemberState.STABLE
    member._enable_heartbeat()
    assert not lease.holds()


def test_a_member_that_joins_again_goes_on_for_the_rest_of_its_session(member: Any, clock: Clock) -> None:
    lease = Lease(SimpleNamespace(_coordinator=member), SESSION_S, clock.monotonic)
    join(member)
    member.state = MemberState.REBALANCING
    clock.now += 9
    assert lease.holds()
    clock.now += 2
    assert not lease.holds()


def test_a_member_that_was_put_out_knows_it(member: Any, clock: Clock) -> None:
    lease = Lease(SimpleNamespace(_coordinator=member), SESSION_S, clock.monotonic)
    join(member)
    member.state = MemberState.UNJOINED
    assert not lease.holds()
    assert lease.is_out()


def test_a_group_is_silent_since_the_last_heartbeat_that_it_has_answered(member: Any, clock: Clock) -> None:
    lease = Lease(SimpleNamespace(_coordinator=member), SESSION_S, clock.monotonic)
    assert lease.silence_s() == 0
    join(member)
    clock.now += 1
    member.heartbeat.sent_heartbeat()
    member.heartbeat.received_heartbeat()
    clock.now += 40
    member.heartbeat.sent_heartbeat()
    assert lease.silence_s() == 40


def test_a_group_that_is_sent_no_heartbeats_is_not_silent(member: Any, clock: Clock) -> None:
    lease = Lease(SimpleNamespace(_coordinator=member), SESSION_S, clock.monotonic)
    join(member)
    clock.now += 40
    for state in (MemberState.REBALANCING, MemberState.UNJOINED):
        member.state = state
        assert lease.silence_s() == 0
