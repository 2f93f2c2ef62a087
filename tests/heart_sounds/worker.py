"""The heart worker: heart sounds in, a label for each out. In the program: `service/heart_worker.py`."""

from pydantic import Field

from inference.bundle import Bundle
from service.configuration.settings import KindSettings, ServiceSettings, Topic
from service.kind import Kind, OpenStream, WorkerError, check_input
from service.monitoring.metrics import WorkerMetrics
from service.pipeline.each_record import EachRecord, encode_labels
from service.run import run_workers
from tests.heart_sounds.framing import FRAME, RULES, spectrograms
from tests.heart_sounds.messages import decode_sounds

SOUNDS_A_BLOCK = 64


class HeartSettings(KindSettings):
    """What the heart worker reads, and where the labels go."""

    input_topic: Topic = Field("heart-sounds", description="topic of sounds")
    output_topic: Topic = Field("heart-labels", description="topic of labels")
    dead_letter_topic: Topic = Field("heart-sounds.dead-letters", description="topic of rejected records")
    bundle: str = Field("synthetic-heart", min_length=1, description="name of a shipped bundle, or a bundle's folder")


class Options(ServiceSettings):
    """Read heart sounds from Kafka, and publish a label for each."""

    heart: HeartSettings = Field(default_factory=HeartSettings)


def run(options: Options) -> None:
    """Work until told to stop."""
    run_workers(options, [heart_kind(options.heart)])


def heart_kind(settings: HeartSettings) -> Kind:
    """Describe the heart worker to the loop that runs it."""

    def prepare(bundle: Bundle, metrics: WorkerMetrics) -> OpenStream:
        check_input(bundle, FRAME, "float32", "heart.bundle")
        if bundle.manifest.framing != RULES:
            raise WorkerError(f"{bundle.title} was trained on other frames than {RULES}: name another in heart.bundle")
        return lambda source: EachRecord(
            decode_sounds, lambda sounds, rows: spectrograms(sounds.samples[rows]), SOUNDS_A_BLOCK
        )

    return Kind("heart", settings, prepare, encode_labels)
