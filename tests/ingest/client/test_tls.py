"""Settings of TLS, made anew of files that change."""

from pathlib import Path

import pytest

from ingest.client.tls import Tls
from tests.certificates import Authority


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(Authority(tmp_path / "first").certificate.read_bytes())
    return path


def test_files_are_read_again_when_they_have_changed_and_no_sooner(ca_file: Path, tmp_path: Path) -> None:
    tls = Tls(ca_file)
    first = tls.context()
    assert tls.context() is first
    ca_file.write_bytes(Authority(tmp_path / "second").certificate.read_bytes())
    second = tls.context()
    assert second is not first
    assert first.get_ca_certs() != second.get_ca_certs()
    assert tls.context() is second


def test_files_that_can_not_be_used_leave_the_last_in_use(ca_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    tls = Tls(ca_file)
    first, good = tls.context(), ca_file.read_bytes()
    ca_file.write_text("half of it")
    assert tls.context() is first
    ca_file.unlink()
    assert tls.context() is first
    assert caplog.text.count("the files of TLS can't be used") == 2
    ca_file.write_bytes(good)
    assert tls.context() is not first


def test_files_that_never_could_be_used_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Tls(tmp_path / "gone").context()
