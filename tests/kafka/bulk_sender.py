"""Sends numbered records in bulk until it is told to stop: `python -m tests.kafka.bulk_sender ADDRESS TOPIC`.

In a process of its own, for kafka-python drops the sockets of connections that are refused without closing them.
"""

import json
import sys
import threading
import time

from kafka.structs import TopicPartition

from ingest.producer.producer import close_producer, open_producer
from ingest.record_batches.bodies import pack


def main(bootstrap_servers: str, topic: str) -> None:
    producer = open_producer(bootstrap_servers=bootstrap_servers, client_id="sender")
    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    sendings, count = [], 0
    while not over.wait(0.02):
        stop = count + 1 + count % 500
        bodies = pack((b"key", b"%d" % number, []) for number in range(count, stop))
        sendings.append(producer.send_bodies(TopicPartition(topic, 0), bodies, int(1000 * time.time())))
        count = stop
        if len(sendings) == 1:
            sendings[0].get(30)
            print("ready", flush=True)
    print(json.dumps([[sending.get(60) for sending in sendings], count]), flush=True)
    close_producer(producer, 5.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
