"""Three Apache Kafka nodes as in production: three replicas of everything, two of which must have what is acknowledged.

The nodes are ``FragileBroker``s that know of one another. How many of them vote for the controller decides what is left
when two are gone: with three voters nothing, not even somebody who notices; with one, the voter, which then refuses
whatever needs two replicas.
"""

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import confluent_kafka.admin
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from service.broker.data_folder import cluster_id_of
from service.broker.ports import free_port
from service.broker.properties import HOST
from service.kafka_admin.topics import TopicError, admin_client, count_brokers
from tests.chaos.broker import FragileBroker
from tests.chaos.load import QUIET

NODES = 3
HEAP = "320m"
STARTED_WITHIN_S = 120.0  # a busy machine is no fault of what is tested
WHOLE_WITHIN_S = 120.0
ANSWER_WITHIN_S = 20.0
FROZEN_S = 8.0  # longer than broker.session.timeout.ms: others lead by then
INTERNAL_TOPICS = ("__consumer_offsets", "__transaction_state")
PREFERRED = 0  # the kind of an election that makes the first replica of each partition its leader
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    # One that stops hands over what it leads, as brokers do unless they are told otherwise.
    "controlled.shutdown.enable": "true",
}


class FragileNode(FragileBroker):
    """One of the cluster's nodes, by its number from 1 on. All are told where the controllers are."""

    def __init__(self, data_dir: Path, number: int, port: int, controllers: Mapping[int, int]) -> None:
        super().__init__(data_dir, port=port, heap=HEAP)
        self.number = number
        self._controllers = controllers

    @property
    def runs(self) -> bool:
        """Whether it has been started, and neither stopped nor killed since."""
        return self._process is not None

    def _changes(self, port: int, written: Mapping[str, str]) -> dict[str, str]:
        # No authorizer: controllers would have to be let in before they know who is to be.
        voters = ",".join(f"{number}@{HOST}:{at}" for number, at in self._controllers.items())
        mine = {"node.id": str(self.number), "controller.quorum.voters": voters}
        if self.number in self._controllers:
            own = f"CONTROLLER://{HOST}:{self._controllers[self.number]}"
            mine["listeners"] = f"PLAINTEXT://{HOST}:{port},{own}"
        else:
            mine |= {"process.roles": "broker", "listeners": f"PLAINTEXT://{HOST}:{port}"}
        return REPLICATED | mine


class FragileCluster:
    """Three nodes in folders of their own below ``folder``, the first ``voters`` of which are controllers, too."""

    def __init__(self, folder: Path, *, voters: int = NODES) -> None:
        controllers = {number: free_port() for number in range(1, voters + 1)}
        self.nodes = [
            FragileNode(folder / f"node-{number}", number, free_port(), controllers) for number in range(1, NODES + 1)
        ]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __getitem__(self, number: int) -> FragileNode:
        """Return the node of this number."""
        return self.nodes[number - 1]

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all, in the order of their numbers."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def start(self) -> Self:
        """Start all; return when each has what the others have. They need one another to answer anybody."""
        self._share_id()
        try:
            self.start_nodes(self.nodes)
            self.wait_until_whole()
        except BaseException:
            self.stop()
            raise
        return self

    def _share_id(self) -> None:
        """Have all data folders belong to one cluster: an id is made up in the first, and noted in the others."""
        first = self.nodes[0].data_dir
        first.mkdir(parents=True, exist_ok=True)
        cluster_id_of(first)
        for node in self.nodes[1:]:
            node.data_dir.mkdir(parents=True, exist_ok=True)
            shutil.copy(first / "broker.json", node.data_dir)

    def start_nodes(self, nodes: Collection[FragileNode]) -> None:
        """Start these at once."""
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(lambda node: node.start(timeout_s=STARTED_WITHIN_S), nodes))

    def stop(self) -> None:
        """Stop all at once."""
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(_stop, self.nodes))

    def mend(self) -> None:
        """Thaw and start whatever doesn't run, wait until all have everything, and spread the leaders again."""
        running = [node for node in self.nodes if node.runs]
        for node in running:
            node.thaw()
        self.start_nodes([node for node in self.nodes if not node.runs])
        deadline = time.monotonic() + WHOLE_WITHIN_S
        self.wait_until_whole()
        while why := self._cannot_spread():
            assert time.monotonic() < deadline, f"after {WHOLE_WITHIN_S} s leaders can't be spread: {why}"
            self.wait_until_whole()

    def _cannot_spread(self) -> str:
        """Spread the leaders; say why that can't be done, as where a node that was frozen goes out once more."""
        try:
            self.elect_preferred()
        except TopicError as error:
            return str(error)
        return ""

    def wait_until_whole(self) -> None:
        """Wait until all nodes are there and each has all that the others have."""
        deadline = time.monotonic() + WHOLE_WITHIN_S
        while lacking := self._lacking():
            assert time.monotonic() < deadline, f"after {WHOLE_WITHIN_S} s the cluster isn't whole: {lacking}"
            time.sleep(0.2)

    def _lacking(self) -> str:
        """Say what keeps the cluster from being whole; nothing if it is."""
        try:
            with self._asking() as admin:
                _, there = count_brokers(admin)
                if there < NODES:
                    return f"only {there} nodes are there"
                behind = [
                    f"{topic['name']}[{partition['partition_index']}]"
                    for topic in admin.describe_topics()
                    for partition in topic["partitions"]
                    if len(partition["isr_nodes"]) < len(partition["replica_nodes"])
                ]
                return f"{behind[:5]} lack replicas" if behind else ""
        except (TopicError, KafkaError) as error:
            return str(error)

    # -- who does what

    def leaders(self, topic: str) -> dict[int, int]:
        """Return the number of each partition's leader; -1 where there is none."""
        with self._asking() as admin:
            (found,) = admin.describe_topics([topic])
        return {partition["partition_index"]: partition["leader_id"] for partition in found["partitions"]}

    def controller(self) -> FragileNode:
        """Return the node that decides who leads what."""
        with self._asking() as admin:
            quorum = admin.describe_metadata_quorum()
        return self[quorum["topics"][0]["partitions"][0]["leader_id"]]

    def coordinator(self, group: str) -> FragileNode:
        """Return the node that coordinates a group, and leads the partition of its commits."""
        client = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.bootstrap_servers, **QUIET})
        answer = client.describe_consumer_groups([group])[group].result(ANSWER_WITHIN_S)
        return self[int(answer.coordinator.id)]

    def transaction_coordinators(self, group: str) -> list[FragileNode]:
        """Return the nodes that coordinate the transactions of a group's workers."""
        with self._asking() as admin:
            found = admin.list_transactions(transactional_id_pattern=f"{group}-.*")
        return [self[number] for number, listed in sorted(found.items()) if listed]

    # -- what operators do

    def elect_preferred(self, *topics: str) -> None:
        """Make each partition's first replica its leader; of all topics if none is named."""
        with self._asking() as admin:
            admin.elect_leaders(PREFERRED, list(topics) or None)

    def assign_replicas(self, topics: Sequence[str], choose: Callable[[list[int]], list[int]]) -> None:
        """Have each partition kept by the nodes that ``choose`` says, given its present ones; the first of them leads.

        Returns when that is so.
        """
        with self._asking() as admin:
            wanted = {
                TopicPartition(topic["name"], partition["partition_index"]): choose(partition["replica_nodes"])
                for topic in admin.describe_topics(list(topics))
                for partition in topic["partitions"]
            }
            refused = {at: error for at, error in admin.alter_partition_reassignments(wanted).items() if error}
            assert not refused, refused
            deadline = time.monotonic() + ANSWER_WITHIN_S
            while left := admin.list_partition_reassignments(list(wanted)):
                assert time.monotonic() < deadline, left
                time.sleep(0.1)
            admin.elect_leaders(PREFERRED, list(topics))

    @contextmanager
    def _asking(self) -> Iterator[KafkaAdminClient]:
        with admin_client(self.bootstrap_servers, timeout_s=ANSWER_WITHIN_S) as admin:
            yield admin


def _stop(node: FragileNode) -> None:
    if node.runs:
        node.thaw()
    node.stop()
