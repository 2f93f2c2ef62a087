"""Kafka's settings."""

HOST = "127.0.0.1"


def server_properties(port: int, controller_port: int) -> dict[str, str]:
    """Return Kafka's settings for one node that is broker and controller, on loopback only.

    Its logs go to the folder `kafka` in its working directory.
    """
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        # Relative: in an absolute path, Kafka would misread a comma, a backslash or an umlaut.
        "log.dirs": "kafka",
        # A typing error must not create a topic.
        "auto.create.topics.enable": "false",
        "log.retention.hours": "24",
        # One node: its internal topics can have one replica, and need few partitions.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "8",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # Lets clients choose to notice a dead member within about a second.
        "group.min.session.timeout.ms": "1000",
        # With one replica, the markers of transactions that end while a partition has no leader are dropped, and its
        # readers wait for ever. So a restarted broker must be registered before it times transactions out, and one that
        # stops must lead its partitions to the end.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "controlled.shutdown.enable": "false",
        # How long after its timeout a dead producer's transaction blocks read_committed consumers.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "6000",
        # A quarter of the default heap otherwise.
        "log.cleaner.dedupe.buffer.size": str(16 << 20),
    }
