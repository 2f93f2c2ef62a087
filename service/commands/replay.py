"""``stridecast replay``."""

import sys
from pathlib import Path
from typing import Literal

from pydantic import Field

from service.configuration.security import access_to
from service.configuration.settings import LABELLING_SETTINGS, MEMBER_SETTINGS, SettingsError, TopicSettings
from service.host.interruption import stop_on_signals
from service.replay.messages import Form
from service.replay.run import SYNTHETIC, Replay, open_fleet, refuse_endless
from service.replay.sending import replay
from service.replay.texts import TextReplay

OF_DEVICES = ("source", "devices", "speed", "form", "chunk_seconds", "seed")


class Options(TopicSettings):
    """Send devices' readings to Kafka, each when it is due: synthetic people, or those of a file of recordings.

    Sends to activity.input_topic. Files are those that `train activity` and `evaluate` read. The newest reading is
    dated now, so at a higher speed than 1, or 0, the stream begins in the past. If the same devices have sent newer
    readings before, those of this stream are late. So send a second replay at --speed 1, or once the devices have been
    silent for a minute (the worker's activity.idle_timeout_s), or, of synthetic people, with another --seed, which has
    other devices.

    With --texts FILE it sends texts to text.input_topic instead, at --rate: one a line, with the line's number as its
    id, or a .jsonl of {"id": ..., "text": ...}.
    """

    unused = (
        *MEMBER_SETTINGS,
        *LABELLING_SETTINGS,
        "activity.output_topic",
        "activity.dead_letter_topic",
        "text.output_topic",
        "text.dead_letter_topic",
    )

    texts: Path | None = Field(None, description="file of texts to send instead of readings (.txt or .jsonl)")
    rate: float = Field(10.0, ge=0, le=1e6, description="texts a second; 0 is as fast as possible")
    source: str = Field(SYNTHETIC, description="'synthetic', or a file of recordings")
    devices: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="devices to send; by default 100 synthetic ones, or one for each person of a file",
    )
    repeat: bool = Field(False, description="start the recording, or the texts, again at its end")
    seconds: float | None = Field(None, gt=0, le=1e9, description="seconds of the stream to send; by default all of it")
    speed: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="how many times faster than real time; 0 is as fast as possible; timestamps end now",
    )
    form: Literal["sample", "chunk", "binary"] = Field(
        "sample", description="message format: single readings, or chunks in JSON or binary"
    )
    chunk_seconds: float = Field(2.0, ge=0.05, le=60, description="seconds of readings in a chunk")
    compression: Literal["gzip", "snappy", "lz4", "zstd"] | None = Field(
        None, description="Kafka's compression of record batches"
    )
    seed: int = Field(0, ge=0, description="random seed of the synthetic people; another seed gives other device ids")


def run(options: Options) -> None:
    """Replay."""
    _refuse_the_others_flags(options)
    with stop_on_signals() as stop:
        if options.texts is not None:
            replay(_texts(options, options.texts), stop)
            return
        sending = _readings(options)
        replay(sending, stop)
    if sending.begins_ago_s > 1:
        print(_of_a_second(sending.begins_ago_s, options), file=sys.stderr)


def _of_a_second(begins_ago_s: float, options: Options) -> str:
    seed = ", or give another --seed" if options.source == SYNTHETIC else ""
    return (
        f"the readings begin {begins_ago_s:,.0f} s in the past: a worker that has read them drops most of a second "
        "replay of the same devices as late. Send that with --speed 1, or a minute (the worker's "
        f"activity.idle_timeout_s) after the worker has read this one{seed}"
    )


def _readings(options: Options) -> Replay:
    endless = options.seconds is None and (options.repeat or options.source == SYNTHETIC)
    refuse_endless(options.speed, endless=endless)  # before a file is read, which may take a while
    return Replay(
        open_fleet(options.source, options.devices, seed=options.seed, repeat=options.repeat),
        bootstrap_servers=access_to(options.kafka),
        topic=options.activity.input_topic,
        speed=options.speed,
        form=Form(options.form),
        seconds=options.seconds,
        chunk_seconds=options.chunk_seconds,
        compression=options.compression,
    )


def _texts(options: Options, path: Path) -> TextReplay:
    return TextReplay(
        path,
        bootstrap_servers=access_to(options.kafka),
        topic=options.text.input_topic,
        max_bytes=options.text.max_bytes,
        rate=options.rate,
        repeat=options.repeat,
        seconds=options.seconds,
        compression=options.compression,
    )


def _refuse_the_others_flags(options: Options) -> None:
    for name, needs in _of_no_use(options).items():
        if name in options.model_fields_set:
            raise SettingsError(f"--{name.replace('_', '-')} {needs}")


def _of_no_use(options: Options) -> dict[str, str]:
    """Name the flags that nothing of what is sent would heed, and say of each what it is for."""
    if options.texts is not None:
        return dict.fromkeys(OF_DEVICES, "is for readings, and --texts sends texts")
    others = {"rate": "goes with --texts"}
    if options.source == SYNTHETIC:
        others["repeat"] = "is for a file: synthetic people never end"
    else:
        others["seed"] = "is of synthetic people, and --source is a file"
    if options.form == "sample":
        others["chunk_seconds"] = "is for --form chunk or binary: a sample is one reading"
    return others
