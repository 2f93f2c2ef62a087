"""The choice of device and CPU engine by the settings, and the log lines about it."""

import logging
import time
from pathlib import Path

from inference.bundle import Bundle
from inference.device_choice import choose_device
from inference.devices import Device
from inference.engine_choice import Measured, Measurement
from inference.models import Model
from service.configuration.settings import InferenceSettings
from service.host.user_folders import cache_folder

log = logging.getLogger(__name__)

# Measured: on a CPU the rate of inference is flat from 12 frames on. But each batch has costs around it, and there are
# so many frames only in a backlog.
MAX_BATCH = {"cpu": 256, "cuda": 1024}


def measurement(threads: int, *, anew: bool = False) -> Measurement:
    """Return how engines with so many threads are measured; `anew` ignores earlier measurements on this machine.

    One thread is measured by its CPU time, which doesn't include waiting on a busy machine.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    return Measurement(clock, default_folder(), anew, apart=True, announce=_announce)


def _announce(bundle: Bundle) -> None:
    log.info("measuring which engine serves %s best, about five seconds; once on this machine", bundle.title)


def device_of(settings: InferenceSettings, *, anew: bool = False) -> Device:
    """Return the device of the settings; `anew` measures a CPU's engines even if this machine's are known.

    Raises DeviceError.
    """
    return choose_device(
        settings.device,
        settings.precision,
        threads=settings.threads,
        engine=settings.engine,
        measurement=measurement(settings.threads, anew=anew),
    )


def max_batch_of(settings: InferenceSettings, device: Device) -> int:
    """Return the most frames in a batch: the setting, or the default for the device."""
    return settings.max_batch or MAX_BATCH[device.name]


def default_folder() -> Path | None:
    """Return `$XDG_CACHE_HOME/stridecast/engines`, by default under `~/.cache`; None without a home."""
    cache = cache_folder()
    return None if cache is None else cache / "engines"


def tell(model: Model) -> None:
    """Log which device, precision and engine a model uses, and which others were measured or refused."""
    by = f", by {model.way}" if model.way else ""
    log.info("%s passed its golden check on %s at %s%s", model.bundle.title, model.device, model.precision, by)
    for reason in model.passed_over:
        log.warning("%s is not served by %s", model.bundle.title, reason)
    choice = model.choice
    if choice is None or not choice.measured:
        return
    for each in choice.measured:
        if each.refusal:
            log.warning("%s is not served by %s: %s", model.bundle.title, each.title, " ".join(each.refusal.split()))
    when, level = ("before", logging.DEBUG) if choice.remembered else ("just now", logging.INFO)
    speeds = "; ".join(describe(each) for each in choice.measured if not each.refusal)
    log.log(level, "engines for %s, measured %s: %s", model.bundle.title, when, speeds)
    if choice.note:
        log.warning("engines: %s", choice.note)


def describe(measured: Measured) -> str:
    """Format one measurement."""
    return f"{measured.title} {measured.frames_per_s:,.0f} frames/s, {measured.single_ms:.2f} ms for one"
