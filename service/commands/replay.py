"""``stridecast replay``."""

from typing import Literal

from pydantic import Field

from service.replay import SYNTHETIC, Replay, open_fleet, replay
from service.replay_messages import Form
from service.run import stop_on_signals
from service.settings import TopicSettings


class Options(TopicSettings):
    """Send devices' readings to Kafka, each when it is due: synthetic people, or those of a file of recordings.

    Files are those that `train activity` and `evaluate` read. Sends to activity.input_topic. The newest reading is
    dated now when it is sent: at a speed other than 1 the stream begins in the past, and what the same devices sent
    before makes older readings late. Let a second replay be of another --seed, whose devices are others.
    """

    source: str = Field(SYNTHETIC, description="'synthetic', or a file of recordings")
    devices: int | None = Field(None, ge=1, le=1_000_000, description="devices; one a recorded person without it")
    repeat: bool = Field(False, description="begin a recording again when it ends")
    seconds: float | None = Field(None, gt=0, description="seconds of the stream to send; to its end without it")
    speed: float = Field(1.0, ge=0, le=1e6, description="times real time; 0 is as fast as possible; timestamps end now")
    form: Literal["sample", "chunk", "binary"] = Field("sample", description="the contract's message form")
    chunk_seconds: float = Field(2.0, ge=0.05, le=60, description="seconds of readings in a chunk")
    compression: Literal["gzip", "snappy", "lz4", "zstd"] | None = Field(None, description="Kafka's, of batches")
    seed: int = Field(0, ge=0, description="of the synthetic people; another seed, other device ids")


def run(options: Options) -> None:
    """Replay."""
    fleet = open_fleet(options.source, options.devices, seed=options.seed, repeat=options.repeat)
    sending = Replay(
        fleet,
        bootstrap_servers=options.kafka.bootstrap_servers,
        topic=options.activity.input_topic,
        speed=options.speed,
        form=Form(options.form),
        seconds=options.seconds,
        chunk_seconds=options.chunk_seconds,
        compression=options.compression,
    )
    with stop_on_signals() as stop:
        replay(sending, stop)
