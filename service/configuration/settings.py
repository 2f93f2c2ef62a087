"""The settings of every command, as small frozen models that are checked at the start.

`settings_reading` reads them; `settings_environment` writes them for another process.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ingest.contract import (
    ACCELEROMETER_DEAD_LETTER_TOPIC,
    ACCELEROMETER_TOPIC,
    ACTIVITIES_TOPIC,
    MAX_AHEAD_MS,
    MAX_TEXT_BYTES,
    TEXT_LABELS_TOPIC,
    TEXTS_DEAD_LETTER_TOPIC,
    TEXTS_TOPIC,
)

ENVIRONMENT_PREFIX = "STRIDECAST_"
NESTED = "__"
SOURCES = (
    "Settings come from flags, then STRIDECAST_* variables (STRIDECAST_KAFKA__BOOTSTRAP_SERVERS),\n"
    "then the TOML file that --config FILE names."
)


class SettingsError(Exception):
    """A setting that is unknown or can't be used; the text names it and says what is accepted."""


# Kafka takes neither . nor .. for a name.
Topic = Annotated[
    str,
    Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]*([A-Za-z0-9_-]|\.\.\.)[A-Za-z0-9._-]*$"),
]


class Group(BaseModel):
    """A named group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(Group):
    """How to reach Kafka."""

    bootstrap_servers: str = Field(
        "127.0.0.1:9092",
        pattern=r"^\s*[^\s,]+:[0-9]{1,5}\s*(,\s*[^\s,]+:[0-9]{1,5}\s*)*$",
        description="brokers to start from, as host:port[,host:port...]",
    )
    group_id: str = Field("stridecast", min_length=1, max_length=249, description="consumer group")
    session_timeout_s: float = Field(
        10, ge=1, le=1800, description="seconds without a heartbeat after which a worker's partitions go to others"
    )
    transaction_timeout_s: float = Field(
        10,
        ge=1,
        le=900,
        description="seconds after which Kafka aborts a dead worker's open transaction (exactly_once)",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="SSL means TLS; SASL_SSL and SASL_PLAINTEXT need sasl_mechanism"
    )
    ssl_ca_file: Path | None = Field(
        None,
        description="PEM file of the CAs that issue the brokers' certificates; by default the system's",
    )
    ssl_check_hostname: bool = Field(True, description="whether a broker's certificate must name its host")
    ssl_certificate_file: Path | None = Field(
        None, description="PEM file of this client's certificate and its chain, where brokers ask for one"
    )
    ssl_key_file: Path | None = Field(None, description="PEM file of its key; by default ssl_certificate_file")
    ssl_key_password: SecretStr | None = Field(None, description="password of the key")
    ssl_key_password_file: Path | None = Field(None, description="file with the password of the key")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="how this client authenticates"
    )
    sasl_username: str | None = Field(None, min_length=1, description="user; for OAUTHBEARER, the client's id")
    sasl_password: SecretStr | None = Field(
        None, description="password; for OAUTHBEARER, the client's secret; sasl_password_file is safer"
    )
    sasl_password_file: Path | None = Field(
        None, description="file with the password; read again for each connection, so it may be replaced"
    )
    sasl_oauth_token_url: str | None = Field(
        None, description="for OAUTHBEARER, the https URL of the token endpoint (client credentials)"
    )
    sasl_oauth_scope: str | None = Field(None, description="for OAUTHBEARER, the scope to ask for")

    @model_validator(mode="after")
    def _refuse_what_cannot_work(self) -> Self:
        problem = next(_contradictions(self), None)
        if problem is not None:
            raise ValueError(problem)
        return self


def _contradictions(kafka: KafkaSettings) -> Iterator[str]:
    """Say what of the settings of TLS and SASL doesn't go together, and what to set."""
    protocol, mechanism = kafka.security_protocol, kafka.sasl_mechanism
    given = {name for name in type(kafka).model_fields if getattr(kafka, name) is not None}
    for first, second in (("sasl_password", "sasl_password_file"), ("ssl_key_password", "ssl_key_password_file")):
        if {first, second} <= given:
            yield f"kafka.{first} and kafka.{second} are both set: leave one out"
    if not protocol.startswith("SASL_"):
        for name in sorted(given):
            if name.startswith("sasl_"):
                yield f"kafka.{name} is of no use with kafka.security_protocol {protocol}: that must be SASL_SSL for it"
    elif mechanism is None:
        yield f"kafka.security_protocol {protocol} needs kafka.sasl_mechanism"
    else:
        needs = ["sasl_username", "sasl_oauth_token_url"] if mechanism == "OAUTHBEARER" else ["sasl_username"]
        for name in needs:
            if name not in given:
                yield f"kafka.sasl_mechanism {mechanism} needs kafka.{name}"
        if not {"sasl_password", "sasl_password_file"} & given:
            yield f"kafka.sasl_mechanism {mechanism} needs kafka.sasl_password_file (or kafka.sasl_password)"
        for name in ("sasl_oauth_token_url", "sasl_oauth_scope"):
            if name in given and mechanism != "OAUTHBEARER":
                yield f"kafka.{name} is for kafka.sasl_mechanism OAUTHBEARER, not {mechanism}"
    if not protocol.endswith("SSL"):
        for name in sorted(given):
            if name.startswith("ssl_") and name != "ssl_check_hostname":
                yield f"kafka.{name} is of no use with kafka.security_protocol {protocol}: that must be SSL or SASL_SSL"
    if "ssl_certificate_file" not in given:
        for name in ("ssl_key_file", "ssl_key_password", "ssl_key_password_file"):
            if name in given:
                yield f"kafka.{name} needs kafka.ssl_certificate_file, the certificate of that key"


class KindSettings(Group):
    """What every kind of worker reads, where its labels go, and the bundle that makes them."""

    input_topic: Topic
    output_topic: Topic
    dead_letter_topic: Topic
    bundle: str = Field(min_length=1)

    @model_validator(mode="after")
    def _refuse_a_circle(self) -> Self:
        if len({self.input_topic, self.output_topic, self.dead_letter_topic}) < 3:
            raise ValueError(
                "input_topic, output_topic and dead_letter_topic must differ, or the worker reads what it writes"
            )
        return self


class KeepSettings(Group):
    """Which windows a worker puts aside for people to label, and where."""

    folder: Path | None = Field(
        None,
        description="folder for Parquet files of windows that a person should label; without it none are kept",
    )
    below_confidence: float = Field(0.6, ge=0, le=1, description="keep windows whose label is less probable than this")
    below_familiarity: float = Field(0.5, ge=0, le=1, description="also keep windows that are less familiar than this")
    per_minute: int = Field(600, ge=1, le=1_000_000, description="most windows to keep a minute")
    max_mb: int = Field(
        1000,
        ge=10,
        le=10_000_000,
        description="most megabytes in the folder; the oldest files are deleted for new ones",
    )

    @field_validator("folder", mode="before")
    @classmethod
    def _empty_is_none(cls, given: Any) -> Any:
        return given or None  # a variable that is set to nothing would mean the working folder


class ActivitySettings(KindSettings):
    """What the activity worker reads, how it cuts windows, and where the labels go."""

    input_topic: Topic = Field(ACCELEROMETER_TOPIC, description="topic of readings")
    output_topic: Topic = Field(ACTIVITIES_TOPIC, description="topic of labels")
    dead_letter_topic: Topic = Field(ACCELEROMETER_DEAD_LETTER_TOPIC, description="topic of rejected records")
    bundle: str = Field("har-cnn", min_length=1, description="name of a shipped bundle, or a bundle's folder")
    unit: Literal["m/s2", "g"] = Field("m/s2", description="unit of the axes in messages")
    max_ahead_s: float = Field(
        MAX_AHEAD_MS // 1000,
        ge=0,
        le=10 * 365 * 86400,
        description="seconds that a reading may be ahead of its record's Kafka timestamp; others are refused",
    )
    lateness_slots: int = Field(4, ge=0, le=1200, description="50 ms slots that a window waits for late readings")
    max_gap_ms: int = Field(
        250, ge=50, le=4000, description="longest gap in a window that still gets a label, in milliseconds"
    )
    idle_timeout_s: float = Field(
        60, gt=0, le=86400, description="seconds after which a silent device's windows are closed"
    )
    max_devices: int = Field(
        65_536,
        ge=1,
        le=1 << 24,
        description="most devices of one partition with an open window; records of further ones are dead letters",
    )
    smoothing: bool = Field(True, description="also publish smoothed_activity, from a device's last four windows")
    keep: KeepSettings = Field(default_factory=KeepSettings)


class TextSettings(KindSettings):
    """What the text worker reads, and where the labels go."""

    input_topic: Topic = Field(TEXTS_TOPIC, description="topic of texts")
    output_topic: Topic = Field(TEXT_LABELS_TOPIC, description="topic of labels")
    dead_letter_topic: Topic = Field(TEXTS_DEAD_LETTER_TOPIC, description="topic of rejected records")
    bundle: str = Field("subjectivity", min_length=1, description="name of a shipped bundle, or a bundle's folder")
    max_bytes: int = Field(
        MAX_TEXT_BYTES, ge=1, le=16 << 20, description="most bytes of UTF-8 in a text; longer ones are refused"
    )


class InferenceSettings(Group):
    """Where and how frames are classified."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto uses a GPU if there is one")
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="auto takes the fastest of float32 and bfloat16 that passes the golden check; int8, for har-cnn on "
        "a CPU by OpenVINO, has to be asked for",
    )
    engine: Literal["auto", "winograd", "amx", "avx512", "openvino", "pytorch"] = Field(
        "auto",
        description="what a CPU computes with; auto measures at the first start, for about five seconds; "
        "models that the engine doesn't know are PyTorch's",
    )
    max_batch: int | None = Field(
        None, ge=1, le=65536, description="most frames in one batch; by default 256 on a CPU and 1024 on a GPU"
    )
    queue_frames: int = Field(4096, ge=1, le=1 << 20, description="frames that may wait before reading pauses")
    threads: int = Field(1, ge=1, le=256, description="CPU threads of one batch")
    fallback: Literal["none", "cpu"] = Field(
        "none",
        description="where to continue when the device fails; none exits, so that a supervisor restarts the process",
    )
    deadline_s: float = Field(
        30,
        gt=0,
        le=3600,
        description="seconds that one batch may take; after that the device counts as hung, and the process exits",
    )


class HttpSettings(Group):
    """Where /metrics, /livez, /readyz and the live view are served."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(9464, ge=0, le=65535, description="port to listen on; 0 takes a free one and logs it")


class Command(BaseSettings):
    """What every command's options are; those that a command adds to its settings come from flags alone."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=NESTED,
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )
    unused: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the names of settings that a command accepts but doesn't use; its `--help` omits them.

    They are accepted because one file or environment may serve all commands.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Make each command's docstring fit for its ``--help``."""
        cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{SOURCES}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment before the file, whose values arrive as the constructor's."""
        return env_settings, init_settings


MEMBER_SETTINGS = ("kafka.group_id", "kafka.session_timeout_s", "kafka.transaction_timeout_s")
"""`kafka` settings that only members of a consumer group and transactional producers use."""
LABELLING_SETTINGS = (
    "activity.bundle",
    "activity.unit",
    "activity.max_ahead_s",
    "activity.lateness_slots",
    "activity.max_gap_ms",
    "activity.idle_timeout_s",
    "activity.max_devices",
    "activity.smoothing",
    "activity.keep.",
    "text.bundle",
)
"""Settings of a kind of worker that only commands which make labels use."""


class TopicSettings(Command):
    """The settings of commands that know Kafka and the topics."""

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    activity: ActivitySettings = Field(default_factory=ActivitySettings)
    text: TextSettings = Field(default_factory=TextSettings)

    @property
    def kinds(self) -> list[KindSettings]:
        """The settings of each kind of worker."""
        return [group for _, group in self if isinstance(group, KindSettings)]


class WorkerSettings(Command):
    """What every worker needs to know, of whichever kind."""

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    inference: InferenceSettings = Field(default_factory=InferenceSettings)
    delivery: Literal["at_least_once", "exactly_once"] = Field(
        "at_least_once", description="exactly_once writes labels, dead letters and offsets in transactions"
    )
    gather_ms: float = Field(
        8,
        ge=0,
        le=1000,
        description="milliseconds to wait for more records at light load: more saves CPU, and delays labels",
    )
    commit_interval_s: float = Field(1, gt=0, le=3600, description="seconds between commits")
    shutdown_grace_s: float = Field(
        20, gt=0, le=3600, description="seconds that a worker may take to finish after SIGTERM"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="one line an event: text for people, json for programs"
    )


class ServiceSettings(WorkerSettings):
    """Settings of a process whose workers run until they are told to stop."""

    http: HttpSettings = Field(default_factory=HttpSettings)


class Settings(ServiceSettings, TopicSettings):
    """All settings there are: what a file or the environment may hold."""
