"""The embedded broker, run for real."""

from collections.abc import Callable

from confluent_kafka import Producer
from kafka import KafkaConsumer, TopicPartition

from service.broker import Broker


def test_kafka_python_reads_what_librdkafka_wrote(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(partitions=2)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce(name, key=b"phone-17", value=b"hello", partition=1)
    assert producer.flush(20) == 0
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
    try:
        consumer.assign([TopicPartition(name, 1)])
        record = next(consumer)
    finally:
        consumer.close()
    assert (record.key, record.value, record.partition) == (b"phone-17", b"hello", 1)
