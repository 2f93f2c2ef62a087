"""The inference core of a worker process: its engine, its watchdog, and the swap of its bundle."""
