import os
import socket
import threading
from pathlib import Path

import kafka
import pytest
from kafka.errors import KafkaTimeoutError

from ingest.connection import make_client


def test_a_client_that_could_not_be_made_leaves_no_descriptor_and_no_thread_behind() -> None:
    """A worker that tried on while its broker stood still lost three descriptors each time: a thousand in an hour."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts connections, and never answers
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = {"bootstrap_timeout_ms": 200, "metrics_enabled": False}

        def fail() -> None:
            for client in (kafka.KafkaProducer, kafka.KafkaConsumer):
                with pytest.raises(KafkaTimeoutError):
                    make_client(client, address, **settings)

        fail()
        before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0, threading.active_count()
        fail()
        after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0, threading.active_count()
        assert after <= before
