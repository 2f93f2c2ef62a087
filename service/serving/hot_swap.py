"""Replaces a bundle while its worker runs: loads, checks and warms it off the serving path, then swaps it in."""

import logging
import threading
from pathlib import Path

from inference.bundle import MANIFEST_NAME, VOCABULARY_NAME, WEIGHTS_NAME, load_bundle
from inference.devices import DeviceError
from inference.lanes import CoreError, Lane
from inference.manifest import BundleError
from service.monitoring.metrics import WorkerMetrics
from service.serving import engines

log = logging.getLogger(__name__)

LOOK_S = 2.0
FINISH_S = 10.0  # for a load under way when the process ends

Signature = tuple[tuple[int, ...] | None, ...]


class HotSwap(threading.Thread):
    """Watches the folder of a lane's bundle, and serves a new one once it is unchanged between two looks.

    If the new one can't be loaded, fails its golden check or doesn't fit, the old one goes on serving. That is logged
    and counted once; the folder is tried again when it changes.
    """

    def __init__(self, folder: Path, lane: Lane, metrics: WorkerMetrics) -> None:
        super().__init__(name=f"{metrics.worker}-hot-swap", daemon=True)
        self._folder = folder
        self._lane = lane
        self._metrics = metrics
        self._closed = threading.Event()
        self._seen: Signature = ()
        self._tried: Signature = ()

    def run(self) -> None:
        """Watch until closed."""
        while not self._closed.wait(LOOK_S):
            self.look()

    def close(self) -> None:
        """Stop watching; wait for a load under way."""
        self._closed.set()
        if self.is_alive():
            self.join(FINISH_S)

    def look(self) -> None:
        """Try the folder's bundle, if it is new and was the same at the last look."""
        before, self._seen = self._seen, signature(self._folder)
        if self._seen == before != self._tried:
            self._tried = self._seen
            self._try()

    def _try(self) -> None:
        serving = self._lane.model.bundle
        try:
            bundle = load_bundle(self._folder)
            if bundle.digest == serving.digest:
                return
            self._lane.swap(bundle)
        except Exception as error:  # any error: the old one goes on serving
            self._metrics.model_loads["failure"].inc()
            told = isinstance(error, BundleError | DeviceError | CoreError)
            log.error("%s goes on serving: %s", serving.title, error, exc_info=not told)
        else:
            self._metrics.model_loaded(self._lane.model)
            log.info("%s (%.12s) serves in the place of %s", bundle.title, bundle.digest, serving.title)
            engines.tell(self._lane.model)


def signature(folder: Path) -> Signature:
    """Return a value that changes when one of a bundle's files is written or replaced, without reading it."""
    return tuple(_signature_of(folder / name) for name in (MANIFEST_NAME, WEIGHTS_NAME, VOCABULARY_NAME))


def _signature_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
