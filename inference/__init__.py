"""Frames to predictions: bundles, architectures, batching, devices. No Kafka."""
