"""Data files read into recordings and texts, cut into windows, and who of them is held out."""
