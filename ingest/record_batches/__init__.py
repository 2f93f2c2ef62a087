"""Record batches of message format v2: bytes from Kafka to columns, and bodies of records to send."""
