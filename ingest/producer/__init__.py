"""kafka-python's producers: records by the hundred, and transactions."""
