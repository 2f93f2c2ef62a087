"""Every window once: where partitions begin, what has been said of them, and when a position may be committed.

docs/delivery.md says what is promised and why it holds. ``protocol.py`` is what a worker asks of either way.
"""
