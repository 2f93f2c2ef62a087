"""TLS as the connections of kafka-python are wrapped in it: its settings, and the sockets."""

import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """How a broker is known, and what this client shows of itself; files are in PEM.

    Stands in for the ``ssl_context`` that kafka-python takes, and reads the files anew for each connection: they may
    have been replaced, as certificates are that don't last long. Without ``ca_file`` the system's authorities count.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Read the files; raises OSError, of which SSLError is one, for what can't be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_hostname
        if self.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(self.ca_file)
        if self.certificate_file is not None:
            # Without any password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self.certificate_file, self.key_file, self.key_password or "")
        context.sslsocket_class = _Socket
        return context

    def wrap_socket(
        self, sock: socket.socket, *, server_hostname: str | None, do_handshake_on_connect: bool
    ) -> ssl.SSLSocket:
        """Wrap a connection, whose handshake is still to be done; one that can't be wrapped is closed."""
        try:
            return self.context().wrap_socket(
                sock, server_hostname=server_hostname, do_handshake_on_connect=do_handshake_on_connect
            )
        except BaseException:
            sock.close()
            raise


class _Socket(ssl.SSLSocket):
    """Closes itself where the handshake fails: kafka-python (3.0.12) lets go of it, and a cycle of objects holds it."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            self.close()
            raise
