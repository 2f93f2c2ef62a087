"""``stridecast demo``: broker, topics, worker and synthetic devices on this machine, and what is labelled, live."""
