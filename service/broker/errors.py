"""The errors of a broker, by kind.

BrokerError
├── JavaMissing           no Java 17 or later
├── PortInUse             another program listens on the port, or this user may not use it
├── DataDirUnusable       not ours, not writable, formatted by another version
│   └── DataDirInUse      another broker runs on it
├── BrokerStopped         stopped before clients could connect
└── BrokerDied            Kafka ended by itself, or never answered; ends with what its log says
ArtifactError             see `service.broker.artifacts`
"""


class BrokerError(Exception):
    """The broker can't run; the text is one sentence that says what to do."""


class JavaMissing(BrokerError):
    """No Java 17 or later."""


class PortInUse(BrokerError):
    """Another program listens on the port, or this user may not use it."""


class DataDirUnusable(BrokerError):
    """The data folder is not a broker's, is not writable, or was formatted by another Kafka."""


class DataDirInUse(DataDirUnusable):
    """Another broker runs on the data folder."""


class BrokerDied(BrokerError):
    """Kafka ended by itself, or did not answer in time."""


class BrokerStopped(BrokerError):
    """The broker was stopped before clients could connect."""
