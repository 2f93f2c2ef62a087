"""Plots of the results recorded with `--json` in `benchmarks/results/`, for benchmarks/README.md.

    python -m benchmarks.pictures

`drain.json`, `devices.json` and `processes.json` are of `benchmarks.drain`, `latency.json` of `benchmarks.latency`.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
RESULTS, PICTURES = HERE / "results", HERE / "pictures"
COLOURS = {"stridecast": "#0b7285", "confluent-kafka": "#adb5bd", "kafka-python": "#dee2e6"}
NAMES = {
    "stridecast": "stridecast",
    "confluent-kafka": "plain confluent-kafka loop",
    "kafka-python": "plain kafka-python loop",
}
MODELS = {"constant": "without a model", "har-cnn": "with har-cnn"}

Rows = Sequence[dict[str, Any]]


def main() -> None:
    matplotlib.rcParams["svg.hashsalt"] = "stridecast"  # the same results give the same file
    matplotlib.rcParams["font.size"] = 9
    PICTURES.mkdir(exist_ok=True)
    for name, draw in PAGES.items():
        source = RESULTS / f"{name}.json"
        if source.exists():
            found = json.loads(source.read_text())
            figure = Figure(figsize=(7.2, 2.6), layout="constrained")
            draw(figure, found["rows"])
            figure.supxlabel(
                f"{found['date']}, {found['machine'].partition(', Python')[0]}", fontsize=7, color="#868e96"
            )
            figure.savefig(PICTURES / f"{name}.svg", metadata={"Date": None})
            print(PICTURES / f"{name}.svg")


def draw_drain(figure: Figure, rows: Rows) -> None:
    """Plot each contender's CPU-seconds a million samples and samples a second, with a model and without."""
    left, right = figure.subplots(1, 2)
    bars(left, rows, "CPU-s a million", "CPU-seconds a million samples (less is better)", "{:.1f}")
    bars(right, rows, "samples/s", "samples a second, drained (more is better)", "{:,.0f}")
    right.legend(fontsize=7, frameon=False)


def bars(axes: Axes, rows: Rows, figure_of: str, title: str, style: str) -> None:
    models = [model for model in MODELS if any(row["model"] == model for row in rows)]
    contenders = [name for name in NAMES if any(row["contender"] == name for row in rows)]
    width = 0.8 / len(contenders)
    for number, contender in enumerate(contenders):
        values = [median(rows, figure_of, contender=contender, model=model) for model in models]
        places = [place + (number - (len(contenders) - 1) / 2) * width for place in range(len(models))]
        drawn = axes.bar(places, values, width, color=COLOURS[contender], label=NAMES[contender])
        axes.bar_label(drawn, [style.format(value) for value in values], fontsize=7)
    axes.set_xticks(range(len(models)), [MODELS[model] for model in models])
    tidy(axes, title)


def draw_devices(figure: Figure, rows: Rows) -> None:
    """Plot the cost of a sample, and the memory of the process, over the number of devices."""
    left, right = figure.subplots(1, 2)
    lines(left, rows, "devices", "CPU-s a million", "CPU-seconds a million samples, without a model")
    lines(right, rows, "devices", "MB", "MB resident")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("devices")
    left.legend(fontsize=7, frameon=False)


def draw_processes(figure: Figure, rows: Rows) -> None:
    """Plot the cost of a sample over the number of worker processes that share the machine."""
    left, right = figure.subplots(1, 2)
    lines(left, rows, "processes", "CPU-s a million", "CPU-seconds a million samples")
    lines(right, rows, "processes", "MB", "MB resident, of all processes")
    for axes in (left, right):
        axes.set_xticks(sorted({row["processes"] for row in rows}))
        axes.set_xlabel("processes")
    left.legend(fontsize=7, frameon=False)


def draw_latency(figure: Figure, rows: Rows) -> None:
    """Plot the latency over the load: the median, and the 99th percentile as a dashed line."""
    axes = figure.subplots()
    for contender in [name for name in NAMES if any(row["contender"] == name for row in rows)]:
        loads = sorted({row["devices"] for row in rows if row["contender"] == contender})
        for which, style in (("p50", "-"), ("p99", "--")):
            values = [median(rows, which, contender=contender, devices=load) for load in loads]
            label = f"{NAMES[contender]}, {which}"
            axes.plot([20 * load for load in loads], values, style, marker="o", color=LINES[contender], label=label)
    axes.set_xlabel("messages a second")
    axes.legend(fontsize=7, frameon=False)
    tidy(axes, "ms from the closing sample to its label, by the broker's clock")
    axes.set_yscale("log")  # what falls behind is late by seconds
    axes.autoscale(axis="y")


LINES = {**COLOURS, "kafka-python": "#e8590c", "confluent-kafka": "#868e96"}


def lines(axes: Axes, rows: Rows, over: str, figure_of: str, title: str) -> None:
    for contender in [name for name in NAMES if any(row["contender"] == name for row in rows)]:
        places = sorted({row[over] for row in rows if row["contender"] == contender})
        values = [median(rows, figure_of, **{"contender": contender, over: place}) for place in places]
        axes.plot(places, values, marker="o", color=LINES[contender], label=NAMES[contender])
    tidy(axes, title)


def median(rows: Rows, figure_of: str, **where: object) -> float:
    """Return the median of a metric in the rows of one setting."""
    found = sorted(row[figure_of] for row in rows if where.items() <= row.items())
    return float(found[len(found) // 2])


def tidy(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


PAGES: dict[str, Callable[[Figure, Rows], None]] = {
    "drain": draw_drain,
    "devices": draw_devices,
    "processes": draw_processes,
    "latency": draw_latency,
}


if __name__ == "__main__":
    main()
