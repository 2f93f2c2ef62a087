"""Apache Kafka on this machine: one KRaft node on loopback, run from its Maven artifacts.

For the demo, the tests and development. A deployment runs its own cluster.
"""
