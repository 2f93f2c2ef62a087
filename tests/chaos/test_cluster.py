"""Three brokers as in production: leaders and coordinators that die, move, restart, or stand still."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from kafka import TopicPartition

from ingest.consumer.labels_reader import LabelsReader
from service.kafka_admin.topics import admin_client
from tests.chaos.cluster import FROZEN_S, INTERNAL_TOPICS, FragileCluster, FragileNode
from tests.chaos.fleet import Fleet
from tests.chaos.load import Load, messy_devices
from tests.chaos.reckoning import Report, as_it_lies, reckon
from tests.chaos.stage import PARTITIONS, Stage
from tests.kafka.worker_process import clean_environment

AWAY_S = 5.0  # others lead by then: it is longer than broker.session.timeout.ms
TOO_FEW_S = 12.0
STILL_S = 40.0  # a session, and as long as kafka-python waits for an answer, and more


@pytest.fixture(scope="module")
def shared_cluster(make_cluster: Callable[..., FragileCluster]) -> FragileCluster:
    return make_cluster()


@pytest.fixture
def cluster(shared_cluster: FragileCluster) -> FragileCluster:
    """Three nodes that all vote, and are well at the beginning."""
    shared_cluster.mend()
    return shared_cluster


@pytest.fixture
def one_voter(make_cluster: Callable[..., FragileCluster]) -> Iterator[FragileCluster]:
    """Three nodes, the first of which decides alone who leads what."""
    cluster = make_cluster(voters=1)
    yield cluster
    cluster.stop()


def test_a_leader_that_coordinates_the_group_too_is_killed_and_comes_back_and_no_window_is_lost(
    cluster: FragileCluster, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(cluster, delivery=delivery)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = _load(stage, seed, seconds=11)
        time.sleep(3)
        node = cluster.coordinator(_group(stage))
        assert node.number in cluster.leaders(stage.input).values()
        _kill_for(node, AWAY_S)
        _settle(stage, fleet, load, report)


def test_those_who_coordinate_transactions_and_who_decide_who_leads_are_killed_and_no_window_is_lost(
    cluster: FragileCluster, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage, rng = make_stage(cluster, delivery=delivery), random.Random(seed)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = _load(stage, seed, seconds=20)
        time.sleep(rng.uniform(2, 4))
        _kill_for(cluster.controller(), rng.choice([0.0, AWAY_S]))
        cluster.wait_until_whole()
        if coordinators := cluster.transaction_coordinators(_group(stage)):
            _kill_for(rng.choice(coordinators), rng.choice([0.0, AWAY_S]))
        _settle(stage, fleet, load, report)


def test_brokers_restarted_one_after_the_other_as_for_an_upgrade_cost_no_window(
    cluster: FragileCluster, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(cluster, delivery=delivery)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = _load(stage, seed, seconds=22)
        time.sleep(3)
        for node in cluster.nodes:
            node.stop()
            node.start()
            cluster.wait_until_whole()
        cluster.elect_preferred()
        _settle(stage, fleet, load, report)
        assert fleet.ended == []


def test_leaders_and_coordinators_that_move_again_and_again_cost_no_window(
    cluster: FragileCluster, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """First their replicas change places, then some leave a node and have to be copied to another."""
    stage, rng = make_stage(cluster, delivery=delivery), random.Random(seed)
    topics = [stage.input, stage.output, stage.dead_letters, *INTERNAL_TOPICS]
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = _load(stage, seed, seconds=24)
        for _ in range(5):
            time.sleep(rng.uniform(0.2, 2))
            cluster.assign_replicas(topics, lambda replicas: [*replicas[1:], replicas[0]])
        for _ in range(4):
            time.sleep(rng.uniform(0.2, 2))
            cluster.assign_replicas(topics, lambda _: rng.sample([1, 2, 3], 2))
        cluster.assign_replicas(INTERNAL_TOPICS, lambda _: rng.sample([1, 2, 3], 3))
        _settle(stage, fleet, load, report)
        assert fleet.ended == []


def test_a_leader_that_stands_still_until_others_lead_and_then_goes_on_costs_no_window(
    cluster: FragileCluster, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(cluster, delivery=delivery)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = _load(stage, seed, seconds=30)
        time.sleep(4)
        _freeze_for(cluster.coordinator(_group(stage)), FROZEN_S)
        time.sleep(4)
        _freeze_for(cluster.controller(), FROZEN_S)
        _settle(stage, fleet, load, report)


def test_a_coordinator_that_stands_still_for_long_does_not_take_the_group_s_partitions_from_it(
    cluster: FragileCluster, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """Its members waited for 30 s before they looked for the new one, which had put them out by then.

    Nor could they recover their partitions before the old one went on: it was asked for the commits, again and again.
    """
    stage = make_stage(cluster, delivery=delivery).told(kafka__session_timeout_s="20")
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = _load(stage, seed, seconds=30)
        time.sleep(4)
        node = cluster.coordinator(_group(stage))
        node.freeze()
        time.sleep(STILL_S)
        said = fleet.said()
        node.thaw()
        _settle(stage, fleet, load, report)
    assert "the group has gone on without this worker" not in said


def test_one_replica_left_of_two_that_must_have_a_record_costs_no_window(
    one_voter: FragileCluster, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    """Whatever is sent, committed or transacted then is refused as NOT_ENOUGH_REPLICAS, and reading goes on."""
    stage = make_stage(one_voter, delivery=delivery)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = _load(stage, seed, seconds=22)
        time.sleep(4)
        _kill_for_a_while(one_voter, [one_voter[2], one_voter[3]])
        _settle(stage, fleet, load, report)


def test_two_nodes_of_three_killed_and_nobody_left_to_decide_who_leads_cost_no_window(
    cluster: FragileCluster, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage, rng = make_stage(cluster, delivery=delivery), random.Random(seed)
    with stage.fleet() as fleet:
        fleet.start(0, 1, 2)
        load = _load(stage, seed, seconds=22)
        time.sleep(4)
        _kill_for_a_while(cluster, rng.sample(cluster.nodes, 2))
        _settle(stage, fleet, load, report)


def test_the_ends_of_partitions_are_found_when_their_leaders_have_changed(
    cluster: FragileCluster, make_stage: Callable[..., Stage]
) -> None:
    """A worker that took over partitions asked those who led before, and waited for up to five minutes."""
    stage = make_stage(cluster)
    partitions = [TopicPartition(stage.input, number) for number in range(PARTITIONS)]
    reader = LabelsReader(bootstrap_servers=cluster.bootstrap_servers, group_id=_group(stage), client_id="reader")
    try:
        for committed in (False, True, False, True):
            assert reader.bounds(partitions, committed=committed) == dict.fromkeys(partitions, (0, 0))
            before = cluster.leaders(stage.input)
            cluster.assign_replicas([stage.input], lambda replicas: [*replicas[1:], replicas[0]])
            assert cluster.leaders(stage.input) != before
    finally:
        reader.close()


def test_the_doctor_sees_which_brokers_are_away_and_what_cannot_be_written(
    one_voter: FragileCluster, make_stage: Callable[..., Stage]
) -> None:
    """It said that all three were there, and that all was well with the topics, while two of them were dead."""
    stage = make_stage(one_voter)
    assert "3 brokers in the cluster\n" in _doctor(stage)
    one_voter[2].kill()
    time.sleep(AWAY_S)
    said = _doctor(stage)
    assert "2 of 3 brokers in the cluster are there" in said
    assert "min.insync.replicas" not in said
    one_voter[3].kill()
    time.sleep(AWAY_S)
    said = _doctor(stage)
    assert "1 of 3 brokers in the cluster are there" in said
    assert f"{stage.output}: exists with {PARTITIONS} partitions; but" in said
    assert f"{PARTITIONS} partitions have fewer replicas in sync than min.insync.replicas (2)" in said


def test_topics_get_as_many_replicas_as_the_brokers_say_and_single_ones_are_warned_of(cluster: FragileCluster) -> None:
    names = {
        f"--{kind}.{what}-topic": f"replicas.{kind}.{what}"
        for kind in ("activity", "text")
        for what in ("input", "output", "dead-letter")
    }
    with admin_client(cluster.bootstrap_servers) as admin:
        admin.create_topics({"replicas.activity.input": {"num_partitions": 2, "replication_factor": 1}})
    flags = [word for flag in names.items() for word in flag]
    command = [
        sys.executable,
        "-m",
        "service",
        "topics",
        "--kafka.bootstrap-servers",
        cluster.bootstrap_servers,
        *flags,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=120, check=True)
    first, *others = done.stdout.splitlines()
    assert "replicas.activity.input: exists with 2 partitions; but" in first
    assert "2 partitions have a single replica, though there are 3 brokers" in first
    assert not [line for line in others if "replica, " in line]
    with admin_client(cluster.bootstrap_servers) as admin:
        (made,) = admin.describe_topics(["replicas.activity.output"])
    assert {len(partition["replica_nodes"]) for partition in made["partitions"]} == {3}


def _doctor(stage: Stage) -> str:
    told = {name: value for name, value in stage.flags.items() if name.startswith("--kafka.boot") or "topic" in name}
    flags = [word for flag in told.items() for word in flag]
    command = [sys.executable, "-m", "service", "doctor", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=60, check=False)
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("fate", ["dead", "frozen"])
def test_workers_start_though_the_first_of_their_brokers_does_not_answer(
    fate: str, cluster: FragileCluster, make_stage: Callable[..., Stage], delivery: str, seed: int, report: Report
) -> None:
    stage = make_stage(cluster, delivery=delivery)
    first = cluster[1]
    assert cluster.bootstrap_servers.startswith(first.bootstrap_servers)
    with stage.fleet() as fleet:
        if fate == "dead":
            first.kill()
        else:
            first.freeze()
        time.sleep(AWAY_S)
        fleet.start(0, 1)
        load = _load(stage, seed, seconds=8)
        load.wait()
        _settle(stage, fleet, load, report)
        assert fleet.ended == []


def _group(stage: Stage) -> str:
    return stage.flags["--kafka.group-id"]


def _load(stage: Stage, seed: int, *, seconds: float) -> Load:
    return stage.load(messy_devices(seed, partitions=PARTITIONS, devices=3, seconds=seconds, speed=4))


def _kill_for(node: FragileNode, seconds: float) -> None:
    node.kill()
    time.sleep(seconds)
    node.start()


def _freeze_for(node: FragileNode, seconds: float) -> None:
    node.freeze()
    time.sleep(seconds)
    node.thaw()


def _kill_for_a_while(cluster: FragileCluster, nodes: list[FragileNode]) -> None:
    for node in nodes:
        node.kill()
    time.sleep(TOO_FEW_S)
    cluster.start_nodes(nodes)


def _settle(stage: Stage, fleet: Fleet, load: Load, report: Report) -> None:
    """Reckon, and look at what the workers have said."""
    reckon(stage, fleet, as_it_lies(stage, load.wait(known=False)), report)
    said = fleet.said()
    report(f"lines said: {len(said.splitlines())}; ended: {fleet.ended}")
    assert "Traceback" not in said, said
