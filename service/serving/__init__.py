"""How a worker process serves its bundles: the engine, the watchdog of the device, and the swap of a new bundle."""
