"""What consumers and producers share: how to reach Kafka, TLS, and which kafka-python fits."""
