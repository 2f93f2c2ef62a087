"""``stridecast replay``: devices, recorded or made up, and texts, sent to Kafka as they come or faster."""
