"""TLS for kafka-python's connections: certificates, sockets, and a handshake with a deadline."""

import logging
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka.errors import KafkaConnectionError, KafkaTimeoutError
from kafka.net.inet import create_connection
from kafka.net.transport import KafkaSSLTransport

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(slots=True, eq=False)
class Tls:
    """The authorities that a broker is verified by, and this client's certificate; files are in PEM.

    It replaces the ``ssl_context`` of kafka-python, and checks the files for each connection, because short-lived
    certificates are replaced while a process runs. Without ``ca_file``, the system's authorities count. All methods are
    for any thread.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    check_hostname: bool = True
    _last: tuple[_Stamp, ssl.SSLContext] | None = field(default=None, init=False, repr=False)

    def context(self) -> ssl.SSLContext:
        """Return the context of the files as they are now; or the last one, as the files may be half replaced.

        Raises OSError, which includes SSLError, if they could never be used.
        """
        last = self._last
        try:
            stamp = self._stamp()  # before reading, so that files replaced meanwhile are read again next time
            if last is None or last[0] != stamp:
                self._last = last = stamp, self._read()
        except OSError as error:
            if last is None:
                raise
            log.warning("the files of TLS can't be used (%s); going on with what they were", error)
        return last[1]

    def _stamp(self) -> _Stamp:
        """Return a value that changes with the files."""
        system = ssl.get_default_verify_paths()
        authorities = (system.cafile, system.capath) if self.ca_file is None else (self.ca_file,)
        paths = [Path(path) for path in (*authorities, self.certificate_file, self.key_file) if path is not None]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in (path.stat() for path in paths))

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_hostname
        if self.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(self.ca_file)
        if self.certificate_file is not None:
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self.certificate_file, self.key_file, self.key_password or "")
        context.sslsocket_class = _Socket
        return context

    def wrap_socket(
        self, sock: socket.socket, *, server_hostname: str | None, do_handshake_on_connect: bool
    ) -> ssl.SSLSocket:
        """Wrap a connection before its handshake; close it if that fails."""
        try:
            return self.context().wrap_socket(
                sock, server_hostname=server_hostname, do_handshake_on_connect=do_handshake_on_connect
            )
        except BaseException:
            sock.close()
            raise


class _Socket(ssl.SSLSocket):
    """Closes itself if the handshake fails: kafka-python (3.0.12) drops it, but a reference cycle keeps it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            self.close()
            raise


def shake_hands_in_time(manager: Any) -> None:
    """Give the TLS handshakes of a client's manager the deadline of their connections.

    kafka-python (3.0.12) waits for ever: for a frozen broker, until it resumes.
    """
    if not manager.ssl_enabled:
        return

    async def build_transport(node: Any, timeout_at: float | None = None) -> KafkaSSLTransport:
        options, proxy_url = manager.config["socket_options"], manager.config["proxy_url"]
        sock = await create_connection(
            manager._net, node.host, node.port, options, proxy_url=proxy_url, timeout_at=timeout_at
        )
        settings = {name: value for name, value in manager.config.items() if name.startswith("ssl_")}
        transport = KafkaSSLTransport(manager._net, sock, host=node.host, **settings)
        await _shake_hands(manager._net, transport._sock, timeout_at)
        return transport

    manager._build_transport = build_transport


async def _shake_hands(net: Any, sock: ssl.SSLSocket, timeout_at: float | None) -> None:
    """Do the handshake, or close the connection and raise KafkaConnectionError."""
    try:
        while True:
            try:
                return sock.do_handshake()
            except ssl.SSLWantReadError:
                await net.wait_read(sock, timeout_at=timeout_at)
            except ssl.SSLWantWriteError:
                await net.wait_write(sock, timeout_at=timeout_at)
    except KafkaTimeoutError:
        sock.close()
        raise KafkaConnectionError("Handshake failed: no answer in time") from None
    except Exception as error:
        sock.close()
        raise KafkaConnectionError(f"Handshake failed: {error}") from error
    except BaseException:  # the client was closed meanwhile
        sock.close()
        raise
