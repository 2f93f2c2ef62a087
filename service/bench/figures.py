"""The results of `stridecast bench`, and their meaning: from the cost of each stage to devices a core.

A device sends 20 readings and half a window a second. Its cost is the CPU time of each stage for those; a core handles
as many devices as fill it, less the headroom.
"""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field

from service.replay.messages import Form
from windowing import SLOT_MS, STRIDE_SLOTS

HEADROOM = 0.3
"""Share of each core left free: for bursts, for the partitions of a failed worker, for the system."""
READINGS_A_SECOND = 1000 / SLOT_MS
WINDOWS_A_SECOND = READINGS_A_SECOND / STRIDE_SLOTS
WORTH_CHANGING = 1.15
"""Recommend another form of message only if it handles at least this many times as many devices."""

NAMES = {Form.SAMPLE: "single samples", Form.CHUNK: "JSON chunks", Form.BINARY: "binary chunks"}
STAGES = {
    "decoding": "decoding",
    "windowing": "windowing",
    "inference": "inference",
    "labels": "writing labels",
    "kafka": "Kafka's client and the rest of the worker",
}


class Figures(BaseModel):
    """A set of results; floats are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Machine(Figures):
    """The machine; `load` is the system's load average over the minute before the bench."""

    cpu: str
    cores: float
    load: float
    python: str
    stridecast: str


class FormFigures(Figures):
    """How fast one core decodes and windows one form of message, in CPU time."""

    readings_a_message: float
    decoded_samples_per_s: float = Field(gt=0)
    windowed_samples_per_s: float = Field(gt=0)


class InferenceFigures(Figures):
    """The engine, and its speed.

    `windows_per_s` is the device's rate in full batches, in wall time; `windows_per_cpu_s` in CPU time.
    """

    bundle: str
    device: str
    engine: str
    precision: str
    threads: int
    max_batch: int
    windows_per_s: float = Field(gt=0)
    windows_per_cpu_s: float = Field(gt=0)
    single_ms: float


class Parts(Figures):
    """The parts of the worker, each measured by itself."""

    forms: Mapping[Form, FormFigures]
    inference: InferenceFigures
    labels_per_cpu_s: float = Field(gt=0)
    bytes_per_device: float


class Drained(Figures):
    """A backlog that a worker has labelled: its size, the time until the last label, and the worker's CPU time."""

    samples: int = Field(gt=0)
    messages: int
    labels: int
    seconds: float = Field(gt=0)
    cpu_seconds: float = Field(gt=0)

    @property
    def samples_per_s(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds

    @property
    def cpu_seconds_per_million(self) -> float:
        """CPU seconds for a million samples."""
        return 1e6 * self.cpu_seconds / self.samples


class Whole(Figures):
    """A worker beside its broker."""

    forms: Mapping[Form, Drained]
    worker_bytes: int


class Capacity(Figures):
    """How many devices that send one form of message can be handled.

    `cost_us` is a device's CPU time a second, in microseconds, by stage; `limit` is the costliest stage.
    """

    cost_us: Mapping[str, float]
    limit: str
    devices_per_core: float
    devices: float

    @property
    def share(self) -> float:
        """The limiting stage's share of the cost."""
        return self.cost_us[self.limit] / sum(self.cost_us.values())


class Report(Figures):
    """All results, and the conclusion; `whole` is missing if it was `skipped` for a reason."""

    machine: Machine
    parts: Parts
    whole: Whole | None
    skipped: str
    headroom: float
    carried: Mapping[Form, Capacity]
    sentences: tuple[str, ...]


def report_of(machine: Machine, parts: Parts, whole: Whole | None, skipped: str) -> Report:
    """Compute the conclusion from the results."""
    carried = {form: capacity_of(form, machine, parts, whole) for form in parts.forms}
    return Report(
        machine=machine,
        parts=parts,
        whole=whole,
        skipped=skipped,
        headroom=HEADROOM,
        carried=carried,
        sentences=tuple(_sentences(machine, parts, whole, carried)),
    )


def capacity_of(form: Form, machine: Machine, parts: Parts, whole: Whole | None) -> Capacity:
    """Return how many devices of a form a core handles, and the machine's cores together.

    The whole, if measured, costs more than its parts: the difference is Kafka's. All workers share one GPU.
    """
    rates, inference = parts.forms[form], parts.inference
    cost_us = {
        "decoding": 1e6 * READINGS_A_SECOND / rates.decoded_samples_per_s,
        "windowing": 1e6 * READINGS_A_SECOND / rates.windowed_samples_per_s,
        "inference": 1e6 * WINDOWS_A_SECOND / inference.windows_per_cpu_s,
        "labels": 1e6 * WINDOWS_A_SECOND / parts.labels_per_cpu_s,
    }
    if whole is not None:
        measured_us = READINGS_A_SECOND * whole.forms[form].cpu_seconds_per_million
        cost_us["kafka"] = max(0.0, measured_us - sum(cost_us.values()))
    devices_per_core = (1 - HEADROOM) * 1e6 / sum(cost_us.values())
    devices, limit = devices_per_core * machine.cores, max(cost_us, key=lambda stage: cost_us[stage])
    if inference.device != "cpu":
        devices_of_gpu = (1 - HEADROOM) * inference.windows_per_s / WINDOWS_A_SECOND
        if devices_of_gpu < devices:
            devices, limit = devices_of_gpu, "inference"
    return Capacity(cost_us=cost_us, limit=limit, devices_per_core=devices_per_core, devices=devices)


def rounded(count: float) -> str:
    """Format a count with two significant digits: it is an estimate."""
    return f"{float(f'{count:.2g}'):,.0f}"


def _sentences(machine: Machine, parts: Parts, whole: Whole | None, carried: Mapping[Form, Capacity]) -> Iterator[str]:
    sample = carried[Form.SAMPLE]
    cores = "1 core" if machine.cores == 1 else f"{machine.cores:g} cores"
    chunks = " or ".join(f"{rounded(carried[form].devices)} in {NAMES[form]}" for form in (Form.CHUNK, Form.BINARY))
    yield (
        f"This machine ({cores}) carries about {rounded(sample.devices)} devices at 20 Hz in single samples, {chunks}."
    )
    yield (
        f"With single samples the limit is {STAGES[sample.limit]}, {sample.share:.0%} of what a device costs"
        f"{_served_by(parts.inference) if sample.limit == 'inference' else ''}."
    )
    state = sample.devices * parts.bytes_per_device / 1e6
    beside = "" if whole is None else f" beside {whole.worker_bytes / 1e6:,.0f} MB a worker"
    yield f"A device takes {parts.bytes_per_device / 1000:.1f} KB: {state:,.0f} MB for all of them{beside}."
    if help_ := "; ".join(_help(machine, parts, carried)):
        yield f"What would help: {help_}."


def _served_by(inference: InferenceFigures) -> str:
    where = "" if inference.device == "cpu" else " of the GPU"
    return f" ({inference.engine} at {inference.precision}, {rounded(inference.windows_per_s)} windows/s{where})"


def _help(machine: Machine, parts: Parts, carried: Mapping[Form, Capacity]) -> Iterator[str]:
    sample, on_cpu = carried[Form.SAMPLE], parts.inference.device == "cpu"
    best = max((Form.CHUNK, Form.BINARY), key=lambda form: carried[form].devices)
    gain = carried[best].devices / sample.devices
    if gain >= WORTH_CHANGING:
        yield f"{NAMES[best]} instead of single samples ({gain:.1f} times as many devices)"
    if on_cpu and sample.limit == "inference":
        without = 1 / (1 - sample.share)
        yield f"a GPU (at most {without:.1f} times as many in single samples, for the rest stays on the CPU)"
    if machine.cores >= 2:
        yield "a second worker, up to one a core: one alone keeps little more than a core busy"
    else:
        yield "more cores, with a worker on each"
