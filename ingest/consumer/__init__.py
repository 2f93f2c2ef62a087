"""kafka-python's consumer, its missing features added and its bugs fixed; readers of labels and of latest records."""
