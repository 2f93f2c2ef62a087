"""Certificates for a test: an authority, and what it signs; made with the program `openssl`."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

KEY_PASSWORD = "key-password-of-the-test"
_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]


@dataclass(frozen=True)
class Signed:
    """A certificate and its key (PKCS 8), in PEM, and both in one file, as Kafka reads them (KIP-651)."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """An authority of its own; its files are in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            if os.environ.get("REQUIRE_KAFKA") == "1":
                raise FileNotFoundError("openssl, which makes the certificates of these tests, is not installed")
            pytest.skip("no openssl to make certificates with")
        folder.mkdir()
        self._folder = folder
        self.certificate = folder / "authority.pem"
        self._key = folder / "authority.key"
        openssl(
            *("req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=authority of a test", *_NEW_KEY),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def sign(self, common_name: str, alternative_names: str = "") -> Signed:
        """Make a key and a certificate; the names are as X.509's, such as `DNS:localhost,IP:127.0.0.1`."""
        certificate, key, both = (self._folder / f"{common_name}.{end}" for end in ("pem", "key", "both"))
        request, extensions = self._folder / "request", self._folder / "extensions"
        openssl("req", "-nodes", "-subj", f"/CN={common_name}", *_NEW_KEY, "-keyout", key, "-out", request)
        extensions.write_text(f"subjectAltName={alternative_names}\n" if alternative_names else "")
        openssl(
            *("x509", "-req", "-days", "2", "-in", request, "-CA", self.certificate, "-CAkey", self._key),
            *("-CAcreateserial", "-extfile", extensions, "-out", certificate),
        )
        both.write_text(key.read_text() + certificate.read_text())
        return Signed(certificate, key, both)


def encrypted(key: Path, password: str = KEY_PASSWORD) -> Path:
    """Write the key once more, so that it needs a password."""
    locked = key.with_suffix(".locked")
    openssl("pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", f"pass:{password}")
    return locked


def openssl(*words: str | Path) -> bytes:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
