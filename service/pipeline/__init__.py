"""A worker: from records to labels, whatever its kind."""
