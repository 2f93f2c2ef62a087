"""Labels from files and from the command line, without Kafka."""
