"""Takes large responses off the socket without copying them half a dozen times.

kafka-python (3.0.12) reads a socket 4 KiB at a time, joins what it got, copies that into the response's frame by way of
two copies more, and copies the whole frame twice before it decodes it. Most of what reading a backlog cost went there.
Here the frame is filled by the socket itself, all but its last byte: that and what follows goes kafka-python's own way,
which sees the frame complete. And it is decoded where it lies.

Of a frame of megabytes the broker sends a piece at a time, and for each the IO loop turned once or twice. On Linux, and
without TLS, the socket is not readable before as much has come as `WAKE_BYTES`, or all of the rest (SO_RCVLOWAT,
socket(7)).
"""

import functools
import platform
import re
import socket
import ssl
import sys
from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes
from kafka.protocol.parser import KafkaProtocol

# Below what malloc takes from the system anew for each call, and gives back (M_MMAP_THRESHOLD, 128 KiB).
READ_BYTES = 96 * 1024
# Enough that a turn of the loop costs little beside copying so much, and the rest comes meanwhile.
WAKE_BYTES = 1 << 20
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def receive_in_place(manager: Any) -> None:
    """Have the connections that a client's manager makes from now on fill their frames in place.

    A kafka-python that is built otherwise is left as it is: slower, and the same.
    """
    leant_on = [(manager, "_build_transport"), (KafkaTCPTransport, "_sock_recv"), (KafkaProtocol(), "_rbuffer")]
    if not all(hasattr(owner, name) for owner, name in leant_on):
        return
    build_transport = manager._build_transport

    async def build_and_adapt(*arguments: Any, **options: Any) -> Any:
        transport = await build_transport(*arguments, **options)
        in_place = _IN_PLACE.get(type(transport))
        if in_place is not None:
            transport.__class__ = in_place
        return transport

    manager._build_transport = build_and_adapt


class Frame(KafkaBytes):  # type: ignore[misc]
    """A response's bytes, whose rest is read as a view of them."""

    def read(self, nbytes: int | None = None) -> Any:
        """Return the next bytes, or a view of all that are left."""
        if nbytes is not None:
            return super().read(nbytes)
        rest = memoryview(self)[self.tell() :]
        self.seek(len(self))
        return rest


class _InPlace:
    """What is different in transports that fill frames in place."""

    _sock: Any
    _protocol: Any
    _closed: bool

    def _wake_at(self, size: int) -> None:
        """Let the socket be readable only once so many bytes have come, where it can be told so."""

    async def _read_from_sock(self) -> None:
        try:
            await super()._read_from_sock()  # type: ignore[misc]
        except ValueError:
            # Closed by another thread, as a client that ends is, just when it was to wait for the socket again:
            # kafka-python would log a traceback.
            if not self._closed:
                raise

    def _sock_recv(self) -> tuple[bytes, KafkaConnectionError | None]:
        """Return what is to go through the parser, nothing where all that came is in the frame; or an error."""
        try:
            frame = self._protocol.parser._rbuffer
            open_still = frame is None or self._fill(frame)
            # At least a whole record of TLS: nothing stays behind where no selector would see it.
            data = self._sock.recv(READ_BYTES) if open_still else b""
        except _NOT_NOW:
            return b"", None
        except Exception as error:
            return b"", KafkaConnectionError(error)
        return data, None if data else KafkaConnectionError("socket disconnected")

    def _fill(self, frame: KafkaBytes) -> bool:
        """Fill a frame but for its last byte; False if the other end has closed; raise when there is no more yet."""
        frame.__class__ = Frame
        end = len(frame) - 1
        with memoryview(frame) as view:
            while (at := frame.tell()) < end:
                try:
                    with view[at:end] as rest:
                        got = self._sock.recv_into(rest)
                except BlockingIOError:
                    self._wake_at(min(end - at, WAKE_BYTES))
                    raise
                if not got:
                    return False
                frame.seek(at + got)
        self._wake_at(1)
        return True


@functools.cache
def _heeds_marks() -> bool:
    """Whether the kernel makes room for as much as it is to wait for, however small the pieces: Linux since 5.8."""
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    return sys.platform == "linux" and release is not None and (int(release[1]), int(release[2])) >= (5, 8)


class _TCP(_InPlace, KafkaTCPTransport):  # type: ignore[misc]
    _wakes_at = 1

    def _wake_at(self, size: int) -> None:
        if _heeds_marks() and size != self._wakes_at:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            self._wakes_at = size


class _SSL(_InPlace, KafkaSSLTransport):  # type: ignore[misc]
    pass


_IN_PLACE = {KafkaTCPTransport: _TCP, KafkaSSLTransport: _SSL}
