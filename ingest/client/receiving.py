"""Receives large responses without copying them half a dozen times.

kafka-python (3.0.12) reads a socket 4 KiB at a time, joins the pieces, copies them into the response's frame by way of
two more copies, and copies the whole frame twice before it decodes it. That was most of the cost of reading a backlog.
Here the socket reads directly into the frame, all but its last byte. That byte and what follows go kafka-python's own
way, which sees a complete frame. The frame is decoded in place.

A broker sends a frame of megabytes in pieces, and for each the IO loop ran once or twice. On Linux, without TLS, the
socket becomes readable only when `WAKE_BYTES`, or all of the rest, has come (SO_RCVLOWAT, socket(7)).
"""

import functools
import logging
import platform
import re
import socket
import ssl
import sys
from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes

log = logging.getLogger(__name__)

# Below the size for which malloc maps and unmaps memory on each call (M_MMAP_THRESHOLD, 128 KiB).
READ_BYTES = 96 * 1024
# So large that a turn of the loop costs little compared with copying so much; the rest comes meanwhile.
WAKE_BYTES = 1 << 20
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def receive_in_place(manager: Any) -> None:
    """Make connections of a client's manager fill their frames in place from now on."""
    build_transport = manager._build_transport

    async def build_and_adapt(*arguments: Any, **options: Any) -> Any:
        transport = await build_transport(*arguments, **options)
        in_place = _IN_PLACE.get(type(transport))
        if in_place is not None:
            transport.__class__ = in_place
        return transport

    manager._build_transport = build_and_adapt


class Frame(KafkaBytes):  # type: ignore[misc]
    """A response's bytes, the rest of which is read as a view."""

    def read(self, nbytes: int | None = None) -> Any:
        """Return the next bytes, or a view of all that are left."""
        if nbytes is not None:
            return super().read(nbytes)
        rest = memoryview(self)[self.tell() :]
        self.seek(len(self))
        return rest


class _InPlace:
    """The methods that differ in transports that fill frames in place."""

    _sock: Any
    _protocol: Any
    _closed: bool

    def _wake_at(self, size: int) -> None:
        """Make the socket readable only once so many bytes have come, if it supports that."""

    async def _read_from_sock(self) -> None:
        try:
            await super()._read_from_sock()  # type: ignore[misc]
        except ValueError:
            # Another thread closed it, as when a client ends, just before it was to wait for the socket again.
            # kafka-python would log a traceback.
            if not self._closed:
                raise

    def _sock_recv(self) -> tuple[bytes, KafkaConnectionError | None]:
        """Return bytes for the parser, or an error; no bytes if all went into the frame."""
        try:
            frame = self._protocol.parser._rbuffer
            open_still = frame is None or self._fill(frame)
            # At least a whole TLS record, so that no bytes stay buffered where no selector sees them.
            data = self._sock.recv(READ_BYTES) if open_still else b""
        except _NOT_NOW:
            return b"", None
        except OSError as error:  # TLS's errors are, too
            return b"", KafkaConnectionError(error)
        except Exception as error:  # whatever it is, the client has to connect anew
            log.exception("reading from a broker failed")
            return b"", KafkaConnectionError(error)
        return data, None if data else KafkaConnectionError("socket disconnected")

    def _fill(self, frame: KafkaBytes) -> bool:
        """Fill a frame but for its last byte; return False if the other end has closed; raise if no more has come."""
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
    """Whether the kernel's receive buffer grows to the mark, however small the pieces are: Linux since 5.8."""
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
