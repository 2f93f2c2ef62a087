"""The activity worker: accelerometer records in, what each device's wearer is doing out."""

import functools
import logging
import weakref
from collections.abc import Callable, Sequence

from inference.bundle import Bundle
from ingest.messages.decode import Readings, decode
from ingest.messages.decode import warm_up as warm_up_decoding
from ingest.messages.label_kernel import warm_up_activities
from ingest.record import Record
from ingest.record_batches.record_columns import Records
from ingest.rejections import Rejection
from service.configuration.settings import ActivitySettings, KeepSettings
from service.kind import Keeper, Kind, OpenStream, check_input
from service.monitoring.metrics import WindowMetrics, WorkerMetrics
from service.pipeline.each_window import EachWindow, encode_labels, identify
from service.pipeline.log_time import LogTime
from windowing import SLOT_MS, WINDOW_SLOTS, Smoother, Windower, features
from windowing import warm_up as warm_up_windowing
from windowing.frame_features import warm_up as warm_up_features
from windowing.smoothing import warm_up as warm_up_smoothing

log = logging.getLogger(__name__)

STANDARD_GRAVITY = 9.80665


def activity_kind(settings: ActivitySettings, *, until_s: float | None = None) -> Kind:
    """Describe the activity worker to the loop that runs it.

    With ``until_s`` (epoch seconds), the log is history up to then: silence is judged by its records' timestamps.
    """

    def prepare(bundle: Bundle, metrics: WorkerMetrics) -> OpenStream:
        check_input(bundle, (WINDOW_SLOTS, 3), "float32", "activity.bundle")
        if (warning := idle_timeout_warning(settings)) is not None:
            log.warning(warning)
        warm_up_decoding()  # seconds without a cache, which the first records would wait for
        warm_up_windowing()
        warm_up_activities()
        warm_up_smoothing()
        warm_up_features()
        windows, streams = WindowMetrics(metrics), weakref.WeakSet[EachWindow]()
        return lambda source: EachWindow(
            source,
            decoder(settings),
            windower(settings),
            windows,
            streams,
            Smoother() if settings.smoothing else None,
            None if until_s is None else LogTime(settings.idle_timeout_s / 4, until_s),
            max_devices=settings.max_devices,
        )

    rules = f"lateness_slots={settings.lateness_slots} unit={settings.unit} max_ahead_s={settings.max_ahead_s:g}"
    return Kind(
        "activity",
        settings,
        prepare,
        encode_labels,
        counts="devices",
        features=features,
        identify=identify,
        rules=rules,
        open_keeper=functools.partial(_open_keeper, settings.keep) if settings.keep.folder else None,
    )


def idle_timeout_warning(settings: ActivitySettings) -> str | None:
    """Return a warning if the idle timeout is so short that devices which send all the time count as silent.

    It is, if it is shorter than the time for which a window stays open; None otherwise.
    """
    held_s = SLOT_MS * (WINDOW_SLOTS + settings.lateness_slots) / 1000
    if settings.idle_timeout_s >= held_s:
        return None
    return (
        f"activity.idle_timeout_s is {settings.idle_timeout_s:g}, and a window waits for {held_s:.4g} s until it "
        "closes by time (4 s, and activity.lateness_slots): devices that send as they measure are taken for silent "
        "before, and few of their windows get a label, or none; give it that much and as long as devices pause between "
        "two messages"
    )


def _open_keeper(settings: KeepSettings, metrics: WorkerMetrics) -> Keeper:
    from service.pipeline.window_keeper import WindowKeeper  # imports pyarrow, which nothing else needs

    return WindowKeeper(settings, WindowMetrics(metrics).kept)


def decoder(
    settings: ActivitySettings,
) -> Callable[[Records | Sequence[Record]], tuple[Readings, Sequence[Rejection]]]:
    """Return the decoder for the settings."""
    scale = STANDARD_GRAVITY if settings.unit == "g" else 1.0
    return functools.partial(decode, max_ahead_ms=int(1000 * settings.max_ahead_s), scale=scale)


def windower(settings: ActivitySettings) -> Windower:
    """Return the windower of a partition, without devices yet."""
    return Windower(
        lateness_slots=settings.lateness_slots,
        max_gap_ms=settings.max_gap_ms,
        idle_timeout_s=settings.idle_timeout_s,
    )
