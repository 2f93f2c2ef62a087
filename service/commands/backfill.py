"""``stridecast backfill``."""

import datetime

from pydantic import Field, field_validator
from rich.console import Console

from service.configuration.settings import ActivitySettings, SettingsError, TextSettings, WorkerSettings


class Options(WorkerSettings):
    """Label what a topic already holds, then exit: history for a new model, or records that have no label yet.

      stridecast backfill --activity.bundle ./mine --activity.output-topic activities.mine
      stridecast backfill --since 2026-11-01 --until 2026-11-08T12:00:00+01:00

    Labels go to activity.output_topic, which is created if it is missing. Labels that are already there are not
    published again. It refuses to run while workers of kafka.group_id write to the same topic and still have to label
    some of these records. Windows are cut as a worker would have cut them then; at the end of the range all are closed.

    If it is stopped or killed, call it again to continue. Several at once with the same flags share the work.
    """

    since: datetime.datetime | None = Field(
        None,
        description="begin with the first record whose Kafka timestamp is this day or time (ISO 8601, UTC without an "
        "offset) or later",
    )
    until: datetime.datetime | None = Field(
        None,
        description="end before the first record whose timestamp is this or later; by default with the last record",
    )
    texts: bool = Field(False, description="label texts, from text.input_topic, instead of readings")
    activity: ActivitySettings = Field(default_factory=ActivitySettings)
    text: TextSettings = Field(default_factory=TextSettings)

    @field_validator("since", "until")
    @classmethod
    def _in_utc(cls, given: datetime.datetime | None) -> datetime.datetime | None:
        if given is None:
            return None
        return given.replace(tzinfo=datetime.UTC) if given.tzinfo is None else given.astimezone(datetime.UTC)


def run(options: Options) -> int:
    """Label, and return 0, or 1 when stopped before the end."""
    now = datetime.datetime.now(datetime.UTC)
    since, until = options.since, options.until
    if since is not None and since >= (until or now):
        raise SettingsError(f"since = {since.isoformat()} is not before {'until' if until else 'now'}")
    from service.activity_worker import activity_kind  # PyTorch comes with it
    from service.backfill.run import backfill
    from service.backfill.stretch import Stretch
    from service.text_worker import text_kind

    if options.texts:
        kind = text_kind(options.text)
    else:
        kind = activity_kind(options.activity, until_s=min(until or now, now).timestamp())
    return backfill(options, kind, Stretch(since, until), Console(highlight=False, soft_wrap=True))
