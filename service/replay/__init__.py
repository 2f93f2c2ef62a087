"""``stridecast replay``: sends recorded or synthetic devices, and texts, to Kafka, in real time or faster."""
