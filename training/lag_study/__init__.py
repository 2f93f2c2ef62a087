"""A study of its own: an LSTM and a linear network on a lagged series."""
