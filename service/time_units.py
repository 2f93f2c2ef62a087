"""Which unit a timestamp is in: devices and recordings often have seconds where milliseconds belong."""

MILLISECONDS_IN = {"seconds": 1000, "milliseconds": 1, "microseconds": 1e-3, "nanoseconds": 1e-6}


def unit_of(number: float, earliest_ms: float, latest_ms: float) -> tuple[str, int] | None:
    """Return the unit in which a number is a time since 1970 between two others, and that time in ms; None if none."""
    for unit, size in MILLISECONDS_IN.items():
        if earliest_ms < number * size < latest_ms:
            return unit, round(number * size)
    return None
