"""The text worker: records of texts in, a label for each out."""

from collections.abc import Sequence

from inference.bundle import Bundle
from ingest.messages.texts import Texts, decode_texts
from ingest.record_batches.record_columns import Records
from ingest.rejections import Rejection
from service.configuration.settings import TextSettings
from service.kind import Kind, OpenStream, WorkerError, check_input
from service.monitoring.metrics import WorkerMetrics
from service.pipeline.each_record import EachRecord, encode_labels
from windowing.text import Framer, FramingError, parse_rules

# Texts framed at once. The longest ones, as HTML, take a fraction of a second.
TEXTS_A_BLOCK = 64


def text_kind(settings: TextSettings) -> Kind:
    """Describe the text worker to the loop that runs it."""

    def prepare(bundle: Bundle, metrics: WorkerMetrics) -> OpenStream:
        framer = _framer(bundle)
        return lambda source: EachRecord(read, lambda texts, rows: framer.frame(texts.texts[rows]), TEXTS_A_BLOCK)

    def read(records: Records) -> tuple[Texts, Sequence[Rejection]]:
        return decode_texts(records, max_bytes=settings.max_bytes)

    return Kind("text", settings, prepare, encode_labels)


def _framer(bundle: Bundle) -> Framer:
    """Return the framer with the rules of the bundle's training; raises WorkerError for a bundle not for texts."""
    try:
        rules = parse_rules(bundle.manifest.framing)
        framer = Framer(rules, bundle.vocabulary)
    except FramingError as error:
        raise WorkerError(f"{bundle.title} can't label texts: {error}") from None
    check_input(bundle, (rules.length,), "int32", "text.bundle")
    return framer
