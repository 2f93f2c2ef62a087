"""What can go wrong with a broker, by kind.

BrokerError
├── JavaMissing           no Java 17 or later
├── PortInUse             another program listens on the port, or it is not for this user
├── DataDirUnusable       not ours, not writable, formatted by another version
│   └── DataDirInUse      another broker runs on it
├── BrokerStopped         told to stop before clients could connect
└── BrokerDied            Kafka ended by itself, or never answered; ends with what its log says
ArtifactError             see `service.broker.artifacts`
"""


class BrokerError(Exception):
    """The broker can't run; the text is one sentence that says what to do."""


class JavaMissing(BrokerError):
    """No Java that Kafka runs on."""


class PortInUse(BrokerError):
    """Another program listens on the port, or it is not for this user."""


class DataDirUnusable(BrokerError):
    """The data folder is not a broker's, is not writable, or was formatted by another Kafka."""


class DataDirInUse(DataDirUnusable):
    """Another broker runs on the data folder."""


class BrokerDied(BrokerError):
    """Kafka ended by itself, or did not answer in time."""


class BrokerStopped(BrokerError):
    """It was told to stop before clients could connect."""
