"""``stridecast bench``: how many devices this machine can handle, from the parts alone and the whole with Kafka."""
