"""``stridecast demo``: broker, topics, worker and synthetic devices on this machine, and a live table of the labels."""
