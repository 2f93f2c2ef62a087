"""Why a client of Kafka can't be had."""

from kafka.errors import KafkaError, KafkaTimeoutError


class IngestError(Exception):
    """Kafka can't be reached, or not by this client; the text says why and what to do."""


class NotLetInError(KafkaError):  # type: ignore[misc]
    """Brokers were reached, but refused the client; the text says why and what to do."""

    def __str__(self) -> str:
        return str(self.args[0])


class NoAnswerError(KafkaTimeoutError):  # type: ignore[misc]
    """No broker was reached; the text says why."""

    def __str__(self) -> str:
        return str(self.args[0])
