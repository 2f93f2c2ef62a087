"""One training loop for any network, with what it starts from, keeps and ends in."""
