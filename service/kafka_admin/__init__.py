"""Topics and consumer groups as Kafka has them."""
