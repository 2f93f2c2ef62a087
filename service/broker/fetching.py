"""Fetching Kafka with progress on standard error."""

import sys

from rich.console import Console
from rich.progress import DownloadColumn
from rich.progress import Progress as Bar

from service.broker.artifacts import KAFKA_VERSION, Jar, default_cache, ensure_jars, missing_jars, read_lock


def fetch_kafka() -> None:
    """Fetch Kafka's jars into the cache, with progress on standard error: a bar on a terminal, else lines.

    Raises an ArtifactError.
    """
    cache = default_cache()
    missing = missing_jars(read_lock(), cache)
    if not missing:
        return
    print_status(
        f"fetching Apache Kafka {KAFKA_VERSION}, {sum(jar.size for jar in missing) / 1e6:.0f} MB, once, to {cache}"
    )
    if not sys.stderr.isatty():
        ensure_jars(cache, progress=_print_fetched)
        return
    with Bar(*Bar.get_default_columns(), DownloadColumn(), console=Console(stderr=True), transient=True) as bar:

        def show(_: Jar, done: int, total: int) -> None:
            if not bar.task_ids:
                bar.add_task(f"fetching Apache Kafka {KAFKA_VERSION}", total=total)
            bar.update(bar.task_ids[0], completed=done)

        ensure_jars(cache, progress=show)


def _print_fetched(jar: Jar, done: int, total: int) -> None:
    print_status(f"fetched {jar.filename}, {done / 1e6:.1f} of {total / 1e6:.1f} MB")


def print_status(sentence: str) -> None:
    """Print a line on standard error."""
    print(sentence, file=sys.stderr, flush=True)
