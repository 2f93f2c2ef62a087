"""Settings: what there is, from where they are read, and the credentials that they lead to."""
