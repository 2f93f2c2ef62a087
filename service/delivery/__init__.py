"""Delivery guarantees: where to start reading a partition, what is published already, when to commit a position.

docs/delivery.md says what is promised and why it holds. ``protocol.py`` is the interface of the two modes,
``at_least_once.py`` and ``exactly_once.py``.
"""
