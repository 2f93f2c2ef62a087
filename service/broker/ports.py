"""Ports of this machine: which are free, and which answer."""

import socket

from service.broker.errors import PortInUse
from service.broker.properties import HOST


def refuse_taken_port(port: int) -> None:
    """Raise PortInUse if nobody can listen on a port."""
    with socket.socket() as probe:
        # As Kafka binds: connections of a broker just stopped do not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError as error:
            raise PortInUse(
                f"port {port} may not be used by this user: choose one above 1023, or 0 for a free one"
            ) from error
        except OSError as error:
            raise PortInUse(_port_message(port)) from error


def _port_message(port: int) -> str:
    return f"port {port} of {HOST} is in use by another program: stop it, or choose another port, or 0 for a free one"


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def accepts_connections(port: int) -> bool:
    """Return whether somebody listens on a port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
