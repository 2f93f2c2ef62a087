"""An Apache Kafka that can be hurt: killed, frozen, reached through a proxy, kept on a small disk, told to refuse."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from service.broker.node import Broker
from service.broker.properties import HOST


class FragileBroker(Broker):
    """A broker of a test's own.

    ``proxied`` is (port, advertised port) of a second listener, whose clients are told to come through another port:
    the proxy's. ``settings`` are further ones, by Kafka's names.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        heap: str = "512m",
        proxied: tuple[int, int] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir, port=port, heap=heap)
        self._proxied = proxied
        self._settings = settings or {}

    def _write_properties(self, port: int) -> Path:
        path = super()._write_properties(port)
        written = dict(line.split("=", 1) for line in path.read_text().splitlines())
        written |= self._changes(port, written)
        path.write_text("".join(f"{name}={value}\n" for name, value in written.items()))
        return path

    def _changes(self, port: int, written: Mapping[str, str]) -> dict[str, str]:
        """Return what differs from the settings that the broker as it ships has written."""
        # Everybody may do everything, until a topic has an ACL.
        changes = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
            **self._settings,
        }
        if self._proxied is not None:
            behind, advertised = self._proxied
            changes |= {
                "listeners": f"{written['listeners']},PROXIED://{HOST}:{behind}",
                "advertised.listeners": f"{written['advertised.listeners']},PROXIED://{HOST}:{advertised}",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
            }
        return changes

    @property
    def pid(self) -> int:
        """The JVM's: the one child of the guard that Broker starts."""
        assert self._process is not None, "the broker does not run"
        guard = self._process.pid
        (jvm,) = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
        return int(jvm)

    def kill(self) -> None:
        """End Kafka by SIGKILL; ``start`` starts it again on the same port and data."""
        assert self._process is not None, "the broker does not run"
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait(30)
        self.stop()

    def freeze(self) -> None:
        """Stop Kafka in its tracks, connections open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)
