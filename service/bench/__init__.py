"""``stridecast bench``: what this machine carries; the parts alone, and the whole through Apache Kafka."""
