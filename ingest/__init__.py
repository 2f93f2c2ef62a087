"""Kafka to columns: message formats, decoding, consumer, producer, dead letters. No torch, no windows."""
