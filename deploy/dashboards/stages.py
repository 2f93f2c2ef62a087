"""The drill-down: a row for each stage that a reading passes, and one for Kafka's side of the worker."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.common import StackingMode

from deploy.dashboards import overview
from deploy.dashboards.panels import NO_LIMITS, NONE_IS_ILL, NONE_IS_WELL, Board, Limits, at_least, at_most
from deploy.dashboards.queries import PROCESS, buckets, greatest, quantile, quantile_ever, rate, series, since, total
from service.configuration.settings import InferenceSettings

QUEUE_FRAMES = InferenceSettings().queue_frames
STAGE = "stage_duration_seconds"
PARTITION = "{{worker}} {{topic}}-{{partition}}"
BY_PARTITION = "worker, topic, partition"


def dashboard() -> Dashboard:
    """Return the drill-down's builder."""
    what = "Each stage from the record to the label: how long, how much, and what is lost on the way."
    board = Board(*overview.STAGES, what, (overview.UID, overview.TITLE))
    _decode(board)
    _window(board)
    _queue(board)
    _inference(board)
    _publish(board)
    _kafka(board)
    return board.builder


def _durations(board: Board, stage: str, of_what: str, limits: Limits) -> None:
    """Open the row of a stage with what every stage has."""
    waits = stage in ("queue", "publish")
    board.row(stage.capitalize())
    board.lines(
        f"{stage.capitalize()}: duration",
        f"How long {of_what} takes.",
        "s",
        [(quantile(share, STAGE, stage=stage), f"{{{{worker}}}} p{share * 100:g}") for share in (0.5, 0.95, 0.99)],
        limits,
    )
    board.heat(
        f"{stage.capitalize()}: spread",
        f"How often {of_what} took how long: two bands are two kinds of load.",
        "s",
        buckets(STAGE, stage=stage),
    )
    board.lines(
        f"{stage.capitalize()}: share of time",
        f"Seconds a second that {of_what} takes in all. Waits overlap: of those there may be more than one a second.",
        "short" if waits else "percentunit",
        [(rate(f"{STAGE}_sum", stage=stage), "{{worker}}")],
        NO_LIMITS if waits else at_most(0.7, 0.9),
    )


def _decode(board: Board) -> None:
    _durations(board, "decode", "decoding a poll's records", at_most(0.1, 0.5))
    board.lines(
        "Records by topic",
        "Records a second taken from each topic.",
        "count:records/s",
        [(rate("records_total", "worker, topic"), "{{worker}} {{topic}}")],
        NONE_IS_ILL,
    )
    board.lines(
        "Readings a record",
        "1 where producers send single readings; chunks cost a worker less.",
        "short",
        [(f"{rate('samples_total')} / {rate('records_total')}", "{{worker}}")],
    )
    rejected = f"{rate('records_rejected_total')} / {rate('records_total')}"
    board.lines(
        "Share rejected",
        "Records that can't be read, of all. The alert 'Dead letters' asks for 1 %.",
        "percentunit",
        [(rejected, "{{worker}}")],
        at_most(0.001, 0.01),
    )


def _window(board: Board) -> None:
    of_all = f"ignoring (reason) group_left () {rate('samples_total')}"
    dropped = f"{rate('samples_dropped_total', 'worker, reason')} / {of_all}"
    _durations(board, "window", "cutting a poll's readings (or texts) into frames", at_most(0.1, 0.5))
    board.lines(
        "Readings that no window holds",
        "As a share of all, by reason: late (all their windows have closed), or superseded (another lies nearer to the "
        "slot's centre), as half of them are of a device that measures at 40 Hz.",
        "percentunit",
        [(dropped, "{{worker}} {{reason}}")],
    )
    board.lines(
        "Lateness",
        "How far behind its device's newest a late reading was; activity.lateness_slots says how far is not "
        "late. More slots help up to a second; from a minute on it is a clock, or a backlog. Empty while none is.",
        "s",
        [(quantile(share, "sample_lateness_seconds"), f"{{{{worker}}}} p{share * 100:g}") for share in (0.5, 0.99)],
        at_most(1, 60),
    )
    complete = f"{rate('windows_total', outcome='labelled')} / {rate('windows_total')}"
    board.lines(
        "Windows that are labelled",
        "Of all that closed. The others have a hole longer than activity.max_gap_ms, or had been published already.",
        "percentunit",
        [(complete, "{{worker}}")],
        at_least(0.5, 0.9),
    )


def _queue(board: Board) -> None:
    _durations(board, "queue", "a block of frames' wait for the device", at_most(0.1, 0.5))
    board.lines(
        "Frames that wait",
        "And that may wait before reading pauses: inference.queue_frames, at whose default the limits are.",
        "count:frames",
        [(total("queue_frames"), "{{worker}} wait"), (total("queue_capacity_frames"), "{{worker}} may wait")],
        at_most(QUEUE_FRAMES / 2, QUEUE_FRAMES * 0.9),
    )
    board.lines(
        "Batches by why they left",
        "A second. The device was idle: there is room. The batch was full: the device is the limit. Drain: at the end.",
        "count:batches/s",
        [(rate("batches_total", "worker, reason"), "{{worker}} {{reason}}")],
        stacking=StackingMode.NORMAL,
    )
    board.heat(
        "Batch sizes",
        "How many batches had at most so many frames.",
        "short",
        buckets("inference_batch_frames"),
    )


def _inference(board: Board) -> None:
    _durations(board, "inference", "a batch on the device", at_most(0.1, 0.5))
    board.lines(
        "A frame's inference",
        "A batch's time divided by its frames: it falls as batches grow.",
        "s",
        [
            (
                f"{rate(f'{STAGE}_sum', stage='inference')} / {rate('inference_batch_frames_sum')}",
                "{{worker}}",
            )
        ],
        at_most(0.005, 0.02),
    )
    board.lines(
        "Batches that failed",
        "A second, by what was done: answered again in smaller ones, or by the fallback.",
        "count:batches/s",
        [(rate("inference_failures_total", "worker, outcome"), "{{worker}} {{outcome}}")],
        NONE_IS_WELL,
    )
    board.numbers(
        "What serves",
        "The model of each worker, the device that it is on and the precision that it is served at.",
        "short",
        [(series("model_info"), "{{worker}} {{instance}}: {{name}}@{{version}} on {{device}}, {{precision}}")],
        columns=3,
        names=True,
    )


def _publish(board: Board) -> None:
    _durations(board, "publish", "a label from its sending to its acknowledgement", at_most(0.25, 1))
    board.lines(
        "Wearers wait",
        "From the end of a window, by the device's clock, to its label's acknowledgement.",
        "s",
        [(quantile(share, "window_age_seconds"), f"{{{{worker}}}} p{share * 100:g}") for share in (0.5, 0.99)],
        at_most(2, 5),
    )
    board.lines(
        "Commits",
        "Of offsets, a second, by outcome.",
        "count:commits/s",
        [(rate("commits_total", "worker, outcome"), "{{worker}} {{outcome}}")],
        NONE_IS_ILL,
    )
    board.lines(
        "Transactions",
        "With exactly once: how many a second ended how. Aborted ones are sent again in the next.",
        "count:transactions/s",
        [(rate("transactions_total", "worker, outcome"), "{{worker}} {{outcome}}")],
    )


def _kafka(board: Board) -> None:
    board.row("Kafka")
    board.lines(
        "Lag by partition",
        "Records that wait. One partition alone: its devices send more, or their key is always the same.",
        "count:records",
        [(total("consumer_lag_records", BY_PARTITION), PARTITION)],
    )
    board.lines(
        "Rewind by partition",
        "Records that a successor would replay before it reads on: about activity.idle_timeout_s of log once "
        "caught up. A million are some ten seconds' work.",
        "count:records",
        [(total("rewind_records", BY_PARTITION), PARTITION)],
        at_most(1_000_000, 5_000_000),
    )
    board.lines(
        "Age of the newest record read",
        "By Kafka's timestamp. It grows with the lag, and where nothing is sent.",
        "s",
        [(since("partition_progress_timestamp_seconds", BY_PARTITION), PARTITION)],
        at_most(10, 60),
    )
    board.lines(
        "Since the last poll",
        "How long ago the loop turned; at 15 s /livez turns red.",
        "s",
        [(since("last_poll_timestamp_seconds", "worker, instance"), "{{worker}} {{instance}}")],
        at_most(5, 15),
    )
    board.lines(
        "Transactions' duration",
        "With exactly once: from the beginning of a transaction to its commit, which a reader of committed "
        "labels waits for.",
        "s",
        [
            (quantile(share, "transaction_duration_seconds"), f"{{{{worker}}}} p{share * 100:g}")
            for share in (0.5, 0.99)
        ],
        at_most(0.5, 1),
    )
    board.lines(
        "Memory",
        "What each process holds. It should be steady, and below what its container or machine has: 'Sizing' in "
        "docs/operations.md says what takes how much.",
        "bytes",
        [(f"sum by (namespace, instance) (process_resident_memory_bytes{{{PROCESS}}})", "{{instance}}")],
    )
    recovered = "Records replayed to rebuild open windows, and labels read back, since each worker's start."
    board.numbers(
        "Replayed",
        recovered,
        "short",
        [(total("recovered_records_total"), "{{worker}} records"), (total("reread_labels_total"), "{{worker}} labels")],
        columns=4,
    )
    board.numbers(
        "Recovery",
        "From a partition's assignment until it is read on: the slowest hundredth since the workers' start, "
        "and the mean.",
        "s",
        [
            (quantile_ever(0.99, "recovery_duration_seconds"), "{{worker}} p99"),
            (
                f"{total('recovery_duration_seconds_sum')} / {total('recovery_duration_seconds_count')}",
                "{{worker}} mean",
            ),
        ],
        at_most(10, 60),
        columns=4,
    )
    board.numbers(
        "Oldest unfinished recovery",
        "How long the worker has been trying to recover a partition that it was assigned, or whose output fails; "
        "until it has, the partition may have no lag. The alert 'Recovery stuck' asks for 180 s.",
        "s",
        [(greatest("recovery_age_seconds", "worker, instance"), "{{worker}} {{instance}}")],
        at_most(60, 180),
        columns=4,
    )
    board.numbers(
        "Rebalances",
        "Times that partitions came or went, since each worker's start.",
        "short",
        [(total("rebalances_total", "worker, instance"), "{{worker}} {{instance}}")],
        at_most(20, 100),
        columns=4,
    )
