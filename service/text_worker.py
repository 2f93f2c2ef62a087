"""The text worker: records of texts in, a label for each out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.bundle import Bundle
from inference.core import Result
from ingest.labels import encode_text_labels
from ingest.rejections import Rejection
from ingest.texts import Texts, decode_texts
from service.kind import Block, Kind, Label, OpenStream, Stream, WorkerError, check_input
from service.metrics import WorkerMetrics
from service.settings import TextSettings
from windowing.text import Framer, FramingError, parse_rules

# Texts cut at once: of the longest ones that are HTML, what takes a fraction of a second.
TEXTS_A_BLOCK = 64


def text_kind(settings: TextSettings) -> Kind:
    """Describe the text worker to the loop that runs it."""

    def prepare(bundle: Bundle, metrics: WorkerMetrics) -> OpenStream:
        framer = _framer(bundle)
        return lambda source: TextStream(settings, framer)

    return Kind("text", settings, prepare, say)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the labels of a block's texts need: their ids, and int64[n] the offsets of their records."""

    ids: list[bytes]
    source_offset: np.ndarray


class TextStream(Stream):
    """One partition's way from records to frames: each text makes one, so nothing is ever open."""

    def __init__(self, settings: TextSettings, framer: Framer) -> None:
        self._settings = settings
        self._framer = framer

    def push(
        self, records: Sequence[Any], processed_at: float, *, mute: bool
    ) -> tuple[Sequence[Rejection], Iterator[Block]]:
        """Decode texts; return what is refused, and blocks of the rest's frames."""
        texts, rejections = decode_texts(records, max_bytes=self._settings.max_bytes)
        return rejections, self._frames(records, texts)

    def _frames(self, records: Sequence[Any], texts: Texts) -> Iterator[Block]:
        offsets = np.fromiter((record.offset for record in records), np.int64, len(records))[texts.record]
        timestamps = np.fromiter((record.timestamp for record in records), np.int64, len(records))[texts.record]
        for start in range(0, len(texts.ids), TEXTS_A_BLOCK):
            rows = slice(start, start + TEXTS_A_BLOCK)
            frames = self._framer.frame(texts.texts[rows])
            yield Block(frames, timestamps[rows], Rows(texts.ids[rows], offsets[rows]))


def say(result: Result, block: Block, source: int) -> list[Label]:
    """Write the labels of the texts that a result is about."""
    rows = slice(result.start, result.stop)
    columns: Rows = block.columns
    return encode_text_labels(
        ids=columns.ids[rows],
        labels=result.bundle.manifest.labels,
        probabilities=result.probabilities,
        model=result.bundle.title,
        source_partition=source,
        source_offset=columns.source_offset[rows],
        bundle_digest=result.bundle.digest,
    )


def _framer(bundle: Bundle) -> Framer:
    """Make what frames texts as they were framed in training; raises WorkerError for a bundle that is none of texts."""
    try:
        rules = parse_rules(bundle.manifest.framing)
        framer = Framer(rules, bundle.vocabulary)
    except FramingError as error:
        raise WorkerError(f"{bundle.title}, which text.bundle names, can't label texts: {error}") from None
    check_input(bundle, (rules.length,), "int32", "text.bundle")
    return framer
