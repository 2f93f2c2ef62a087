"""The overview: is all well, how much flows, how fast, what it says, and what goes wrong."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.common import StackingMode

from deploy.dashboards.panels import NONE_IS_ILL, NONE_IS_WELL, Board, at_least, at_most
from deploy.dashboards.queries import (
    LEAST_SHARE,
    OBJECTIVE_S,
    PER_SCRAPE,
    PROCESS,
    greatest,
    mean,
    quantile,
    rate,
    series,
    shares,
    stability,
    total,
)

UID, TITLE = "stridecast-overview", "Stridecast: overview"
STAGES = ("stridecast-stages", "Stridecast: stages")
E2E = "end_to_end_latency_seconds"
FIRING = 'ALERTS{alertname=~"Stridecast.+", alertstate="firing", namespace=~"$namespace"}'
SCRAPED = 'up{job=~"stridecast-.+", namespace=~"$namespace"}'
LEAST_RATE = 0.001
"""Records a second: to be divided by, a rate must not be 0."""


def dashboard() -> Dashboard:
    """Return the overview's builder."""
    board = Board(UID, TITLE, "What Stridecast's workers do, how fast, and what goes wrong.", STAGES)
    _at_a_glance(board)
    _flow(board)
    _latency(board)
    _labels(board)
    _trouble(board)
    _device(board)
    return board.builder


def _at_a_glance(board: Board) -> None:
    board.row("At a glance")
    board.numbers(
        "Workers ready",
        "Workers whose model serves and that have joined their group, of each job. None: see 'No worker ready' in the "
        "runbook.",
        "short",
        [(_ready(), "{{job}}")],
        NONE_IS_ILL,
    )
    board.numbers(
        "Alerts",
        "Stridecast's alerts that fire now, of all workers in what namespaces are chosen; docs/operations.md says what "
        "to do about each.",
        "short",
        [(f"count by (namespace) ({FIRING}) or 0 * count by (namespace) ({SCRAPED})", "")],
        NONE_IS_WELL,
    )
    board.numbers(
        "Records read",
        "Records taken from Kafka.",
        "count:records/s",
        [(f"sum by (namespace) ({rate('records_total')})", "")],
        NONE_IS_ILL,
    )
    board.numbers(
        "Labels",
        "Labels published.",
        "count:labels/s",
        [(f"sum by (namespace) ({rate('predictions_total')})", "")],
        NONE_IS_ILL,
    )
    board.numbers(
        "Behind by",
        "How long reading what waits in Kafka would take at the present rate, for the topic that is furthest behind. "
        "The alert 'Lag growing' asks for 30 s.",
        "s",
        [(f"max by (namespace) ({_behind_s()})", "")],
        at_most(10, 30),
    )
    board.numbers(
        "Slowest hundredth",
        "99 of 100 labels take less, from Kafka's timestamp of the record that completed the frame to the "
        "acknowledgement of its label. The objective is a second.",
        "s",
        [(quantile(0.99, E2E), "{{worker}}")],
        at_most(OBJECTIVE_S / 2, OBJECTIVE_S),
    )


def _flow(board: Board) -> None:
    board.row("Throughput and lag")
    board.lines(
        "Records read",
        "Records a second taken from each topic.",
        "count:records/s",
        [(rate("records_total", "worker, topic"), "{{worker}} {{topic}}")],
        NONE_IS_ILL,
    )
    board.lines(
        "Readings",
        "Readings a second decoded from the records: 20 for each device that measures at 20 Hz.",
        "count:readings/s",
        [(rate("samples_total"), "{{worker}}")],
        NONE_IS_ILL,
    )
    board.lines(
        "Labels",
        "Labels a second published: one each two seconds for each device, one for each text.",
        "count:labels/s",
        [(rate("predictions_total"), "{{worker}}")],
        NONE_IS_ILL,
    )
    board.lines(
        "Lag",
        "Records between the end of the log and the worker's position. How much that is, 'Behind by' says.",
        "count:records",
        [(total("consumer_lag_records", "worker, topic"), "{{worker}} {{topic}}")],
    )
    board.lines(
        "Behind by",
        "How long reading what waits would take at the present rate. The alert 'Lag growing' asks for 30 s.",
        "s",
        [(_behind_s(), "{{worker}} {{topic}}")],
        at_most(10, 30),
    )
    board.lines(
        "Active devices",
        "Devices that have an open window, which is to say that were heard within activity.idle_timeout_s.",
        "short",
        [(total("active_devices"), "{{worker}}")],
        NONE_IS_ILL,
    )


def _latency(board: Board) -> None:
    board.row("Latency")
    board.lines(
        "End to end",
        "From Kafka's timestamp of the record that completed the frame to the acknowledgement of its label.",
        "s",
        [(quantile(share, E2E), f"{{{{worker}}}} p{share * 100:g}") for share in (0.5, 0.95, 0.99)],
        at_most(OBJECTIVE_S / 2, OBJECTIVE_S),
    )
    within = f"{rate(f'{E2E}_bucket', le=str(OBJECTIVE_S))} / {rate(f'{E2E}_count')}"
    board.lines(
        "Labels within the objective",
        "The share of labels that took no longer than a second; 99 % is the objective that 'Latency burning' guards.",
        "percentunit",
        [(within, "{{worker}}")],
        at_least(0.9, 0.99),
    )
    board.lines(
        "Stages",
        "Where time goes: the mean of a poll's decoding and windowing, of a block's wait in the queue, of a batch's "
        "inference, and of a label's publishing, as a stack. The link leads to each stage.",
        "s",
        [(mean("stage_duration_seconds", "stage"), "{{stage}}")],
        at_most(OBJECTIVE_S / 2, OBJECTIVE_S),
        stacking=StackingMode.NORMAL,
    )


def _labels(board: Board) -> None:
    board.row("What it says")
    board.lines(
        "Activities over time",
        "The labels published, as shares of all; of texts, too, if their worker is chosen.",
        "count:labels/s",
        [(rate("predictions_total", "worker, label"), "{{worker}} {{label}}")],
        stacking=StackingMode.PERCENT,
    )
    board.lines(
        "Confidence",
        "The probability of the label that was given: the least sure tenth, the middle and the mean. "
        "A drop is 'Confidence drifting' in the runbook.",
        "percentunit",
        [
            (quantile(0.1, "prediction_confidence_ratio"), "{{worker}} p10"),
            (quantile(0.5, "prediction_confidence_ratio"), "{{worker}} p50"),
            (mean("prediction_confidence_ratio"), "{{worker}} mean"),
        ],
        at_least(0.5, 0.6),
    )
    board.lines(
        "Familiarity",
        "How much windows are like those that the model learned from: the strangest tenth, the middle and the mean. "
        "Near 0 are noise, other units and phones that are thrown about; other activities are lower, but not all.",
        "percentunit",
        [
            (quantile(0.1, "prediction_familiarity_ratio"), "{{worker}} p10"),
            (quantile(0.5, "prediction_familiarity_ratio"), "{{worker}} p50"),
            (mean("prediction_familiarity_ratio"), "{{worker}} mean"),
        ],
        at_least(0.5, 0.6),
    )
    board.lines(
        "Drift from the training data",
        "How far the last hour's windows, feature by feature, and labels are from those that the model learned from: "
        "the population stability index. Above 0.25 much differs: other phones, places on the body, units or rates; or "
        "people who sit more than those in the training data did, who are no reason to worry. A jump is, "
        "unless another model serves since.",
        "none",
        [
            (
                stability(shares("feature_frames_total", "tenth", "worker, feature"), "0.1", "worker, feature"),
                "{{worker}} {{feature}}",
            ),
            (
                stability(shares("predictions_total", "label", "worker"), _learned_shares(), "worker"),
                "{{worker}} labels",
            ),
        ],
        at_most(0.25, 1.0),
    )
    board.lines(
        "Windows",
        "Windows closed a second, by outcome: labelled, incomplete (a hole longer than activity.max_gap_ms) or a "
        "duplicate that had been published before a restart.",
        "count:windows/s",
        [(rate("windows_total", "worker, outcome"), "{{worker}} {{outcome}}")],
        NONE_IS_ILL,
        stacking=StackingMode.NORMAL,
    )


def _trouble(board: Board) -> None:
    board.row("What goes wrong")
    board.lines(
        "Kafka silent",
        "For how long a fetch or a heartbeat has had no answer; a heartbeat is sent each second. The alert asks for "
        "30 s. Lag stands still meanwhile.",
        "s",
        [(greatest("kafka_silence_seconds", "worker, instance"), "{{worker}} {{instance}}")],
        at_most(10, 30),
        columns=4,
    )
    board.lines(
        "Errors",
        "What fails a second. All of it is tried again or has a way around; docs/operations.md has a line on each.",
        "count:errors/s",
        [
            (rate("inference_failures_total", "outcome"), "batches answered by {{outcome}}"),
            (rate("commits_total", "outcome", outcome="failure"), "commits: {{outcome}}"),
            (rate("transactions_total", "outcome", outcome="aborted"), "transactions {{outcome}}"),
            (rate("transactions_total", "outcome", outcome="fenced"), "transactions {{outcome}}"),
            (f"sum by (namespace) ({rate('dead_letter_failures_total')})", "dead letters refused"),
            (f"sum by (namespace) ({rate('partition_restarts_total')})", "partitions restarted"),
            (f"sum by (namespace) ({rate('expired_records_total')})", "records expired unread"),
            (f"sum by (namespace) ({rate('unreadable_records_total')})", "records unreadable"),
            (rate("model_loads_total", "outcome", outcome="failure"), "model loads: {{outcome}}"),
        ],
        NONE_IS_WELL,
        columns=4,
    )
    board.lines(
        "Dead letters by reason",
        "Records a second that can't be read and went to the dead letters. The alert 'Dead letters' asks for "
        "1 % of all.",
        "count:records/s",
        [(rate("records_rejected_total", "worker, reason"), "{{worker}} {{reason}}")],
        NONE_IS_WELL,
        columns=4,
        stacking=StackingMode.NORMAL,
    )
    board.lines(
        "Devices split over partitions",
        "Devices that a worker saw on two partitions in the last hour: producers that hash keys differently.",
        "short",
        [(f"sum by (namespace, worker) (increase({series('split_devices_total')}[1h]))", "{{worker}}")],
        NONE_IS_WELL,
        columns=4,
    )


def _device(board: Board) -> None:
    board.row("The device and the process")
    board.lines(
        "Batch sizes",
        "Frames in a batch. They grow with the load; at inference.max_batch the device is the limit.",
        "count:frames",
        [
            (mean("inference_batch_frames"), "{{worker}} mean"),
            (quantile(0.5, "inference_batch_frames"), "{{worker}} p50"),
            (quantile(0.95, "inference_batch_frames"), "{{worker}} p95"),
        ],
        columns=4,
    )
    board.lines(
        "Queue",
        "How full the queue for the device is; full, it makes reading pause.",
        "percentunit",
        [(f"{total('queue_frames')} / {total('queue_capacity_frames')}", "{{worker}}")],
        at_most(0.5, 0.9),
        columns=4,
    )
    board.lines(
        "GPU memory",
        "The share of its GPU's memory that each process holds; 0 on a CPU. What others hold is not in it: nvidia-smi "
        "tells.",
        "percentunit",
        [(_gpu_share(), "{{instance}}")],
        at_most(0.8, 0.95),
        columns=4,
    )
    board.lines(
        "Processor",
        "Cores that each process keeps busy. A worker is one busy thread and inference.threads: near 1, "
        "another worker helps.",
        "short",
        [
            (
                f"sum by (namespace, instance) (rate(process_cpu_seconds_total{{{PROCESS}}}[{PER_SCRAPE}]))",
                "{{instance}}",
            )
        ],
        at_most(0.7, 0.9),
        columns=4,
    )


def _ready() -> str:
    scraped = f"up{{{PROCESS}}}"  # also those that have no other series, for they don't answer
    return f"sum by (namespace, job) ({series('ready')} or on (namespace, job, instance) 0 * {scraped})"


def _behind_s() -> str:
    # Where nothing waits, it is 0 even if nothing is read.
    read = f"clamp_min({rate('records_total', 'worker, topic')}, {LEAST_RATE})"
    return f"{total('consumer_lag_records', 'worker, topic')} / {read}"


def _learned_shares() -> str:
    return f"clamp_min({greatest('training_label_ratio', 'worker, label')}, {LEAST_SHARE})"


def _gpu_share() -> str:
    reserved, has = (greatest(f"gpu_memory_{name}_bytes", "instance") for name in ("reserved", "total"))
    return f"{reserved} / clamp_min({has}, 1)"  # where there is no GPU, 0 of 0 bytes are no number
