"""``stridecast classify``."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console

from service.configuration.settings import ActivitySettings, Command, InferenceSettings, SettingsError, TextSettings

if TYPE_CHECKING:
    from service.without_kafka.classify import LabelledReadings


class Options(Command):
    """Label texts, or the windows of a file of accelerometer readings, without Kafka.

      stridecast classify "a gripping, funny film" "it opens in June"
      stridecast classify --file reviews.txt                        one text a line; - is standard input
      stridecast classify --file messages.jsonl --format json       {"id": ..., "text": ...} a line
      stridecast classify --file walk.csv --picture walk.png        header: timestamp,x,y,z and perhaps device_id

    Answers are those that the workers would publish, by the same code. timestamp is epoch milliseconds or an ISO 8601
    time, UTC without an offset; x, y, z are m/s² with gravity, or in g with --activity.unit g. Without device_id, a
    column person tells devices apart. A text that begins with a dash goes behind --, the last of the flags.
    """

    unused = (
        "activity.input_topic",
        "activity.output_topic",
        "activity.dead_letter_topic",
        "activity.max_ahead_s",
        "activity.idle_timeout_s",
        "activity.keep.",
        "text.input_topic",
        "text.output_topic",
        "text.dead_letter_topic",
    )

    texts: CliPositionalArg[list[str]] = Field(default=[], description="texts to label, each in quotes")
    file: Path | None = Field(None, description="texts (.txt or .jsonl; - is standard input), or readings (.csv)")
    bundle: str | None = Field(
        None, description="name of a shipped bundle, or a bundle's folder; text.bundle or activity.bundle without it"
    )
    format: Literal["table", "json"] = Field("table", description="a table, or a line of JSON a label")
    picture: Path | None = Field(None, description="PNG of the readings, their labels and confidence")
    activity: ActivitySettings = Field(default_factory=ActivitySettings)
    text: TextSettings = Field(default_factory=TextSettings)
    inference: InferenceSettings = Field(default_factory=InferenceSettings)


def run(options: Options) -> None:
    """Label and show."""
    if bool(options.texts) == (options.file is not None):
        raise SettingsError('give texts, each in quotes, or --file: stridecast classify "a gripping, funny film"')
    if options.file is not None and options.file.suffix.lower() == ".csv":
        _run_readings(options, options.file)
    else:
        _run_texts(options)


def _run_texts(options: Options) -> None:
    if options.picture is not None:
        raise SettingsError("--picture draws accelerometer readings, not texts: give --file a .csv of readings with it")
    from service.without_kafka.classify import classify_texts  # PyTorch comes with it
    from service.without_kafka.files import texts_of_file, texts_of_words
    from service.without_kafka.tables import text_table

    source = texts_of_words(options.texts) if options.file is None else texts_of_file(options.file)
    _hint_at_file(options.texts)
    settings = options.text.model_copy(update={"bundle": options.bundle or options.text.bundle})
    labelled = classify_texts(source, settings, options.inference)
    if options.format == "json":
        _write([label.message for label in labelled.labels])
    else:
        Console().print(text_table(labelled))


def _hint_at_file(texts: list[str]) -> None:
    if len(texts) == 1 and os.path.isfile(texts[0]):  # Path's raises for what is too long to be a name
        print(f"stridecast classify: {texts[0]} is a file; to label what it holds: --file {texts[0]}", file=sys.stderr)


def _run_readings(options: Options, file: Path) -> None:
    save_picture = _picture_saver(options.picture)
    from service.without_kafka.classify import classify_readings
    from service.without_kafka.files import readings_of_file
    from service.without_kafka.tables import activity_table

    settings = options.activity.model_copy(update={"bundle": options.bundle or options.activity.bundle})
    labelled = classify_readings(readings_of_file(file), settings, options.inference)
    if options.format == "json":
        _write([label.message for label in labelled.labels])
    else:
        Console().print(activity_table(labelled))
    save_picture(labelled, settings.max_gap_ms)


def _picture_saver(path: Path | None) -> "Callable[[LabelledReadings, int], None]":
    """Return what saves the picture, if one is asked for; says before the work what stands in its way."""
    if path is None:
        return lambda labelled, max_gap_ms: None
    if path.suffix.lower() != ".png":
        raise SettingsError(f"--picture = {str(path)!r}: a picture is a PNG, and its name ends in .png")
    from service.without_kafka.signal_picture import refuse_unwritable

    refuse_unwritable(path)
    return partial(_save_picture, path)


def _save_picture(path: Path, labelled: "LabelledReadings", max_gap_ms: int) -> None:
    from service.without_kafka.signal_picture import save_picture

    save_picture(path, labelled, max_gap_ms)
    print(f"drawn: {path}", file=sys.stderr)


def _write(messages: list[bytes]) -> None:
    try:
        sys.stdout.buffer.write(b"".join(message + b"\n" for message in messages))
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # whoever reads has enough, as `| head` has; Python would complain again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
