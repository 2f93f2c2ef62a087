"""The cache of Kafka's jars, filled from a Maven repository that these tests serve on loopback."""

import errno
import gc
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from service.broker.artifacts import (
    KAFKA_VERSION,
    ArtifactError,
    CacheUnusable,
    Jar,
    SourceUnreachable,
    WrongDigest,
    ensure_jars,
    read_lock,
)
from tests.test_rooms import ROOT

# jgo never closes an answer other than 200.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <(socket|ssl):ResourceWarning")

JARS = {f"org.example:part-{n}:1.{n}": f"the content of part {n}".encode() * 1000 for n in range(6)}


@dataclass
class Repository:
    """A Maven repository: what it holds by path, how often each path was asked for, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    fails_first: int = 0
    """How many times it fails on each jar before it gives it."""
    cuts_off: bool = False
    """Whether it fails by closing the connection halfway, rather than with status 503."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A repository with JARS in it, which jgo's settings name as the one to use."""
    pytest.importorskip("jgo", reason="needs the 'broker' extra")
    served = Repository({_path(coordinate): content for coordinate, content in JARS.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            served.requests[name] += 1
            content = served.files.get(name)
            if content is None:
                self.send_error(404)
            elif served.requests[name] <= served.fails_first and not served.cuts_off:
                self.send_error(503)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                cut = served.requests[name] <= served.fails_first
                self.wfile.write(content[: len(content) // 2] if cut else content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        _use_repository(tmp_path, monkeypatch, server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield served
        server.shutdown()
        thread.join()
    gc.collect()  # what jgo left unclosed, lest it become another test's warning


def _use_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int, scheme: str = "http") -> None:
    settings = tmp_path / "jgo.conf"
    settings.write_text(f"[repositories]\nhere = {scheme}://127.0.0.1:{port}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))


def _path(coordinate: str) -> str:
    group, artifact, version = coordinate.split(":")
    return f"{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}.jar"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock file that names JARS."""
    path = tmp_path / "jars.lock"
    lines = [f"{hashlib.sha256(jar).hexdigest()} {len(jar)} {coordinate}" for coordinate, jar in JARS.items()]
    path.write_text("# a comment\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def lock_of_one(tmp_path: Path) -> Path:
    """A lock file that names a jar, for repositories that do not give it."""
    path = tmp_path / "one.lock"
    path.write_text(f"{'0' * 64} 21000 org.example:part-0:1.0\n")
    return path


def test_an_empty_cache_is_filled_with_what_the_lock_names(repository: Repository, lock: Path, tmp_path: Path) -> None:
    fetched: list[tuple[str, int, int]] = []
    paths = ensure_jars(
        tmp_path / "cache", lock=lock, progress=lambda jar, done, total: fetched.append((jar.coordinate, done, total))
    )
    assert [path.read_bytes() for path in paths] == list(JARS.values())
    assert sorted(coordinate for coordinate, _, _ in fetched) == sorted(JARS)
    assert [(done, total) for _, done, total in fetched] == [(n * 21_000, 126_000) for n in range(1, 7)]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(path.name for path in paths)


def test_a_full_cache_needs_no_repository(repository: Repository, lock: Path, tmp_path: Path) -> None:
    first = ensure_jars(tmp_path / "cache", lock=lock)
    repository.requests.clear()
    assert ensure_jars(tmp_path / "cache", lock=lock) == first
    assert not repository.requests


@pytest.mark.parametrize(
    "damage", [b"", b"the content", b"THE CONTENT OF PART 3" * 1000], ids=["emptied", "cut", "altered"]
)
def test_a_damaged_jar_alone_is_fetched_again(
    repository: Repository, lock: Path, tmp_path: Path, damage: bytes
) -> None:
    paths = ensure_jars(tmp_path / "cache", lock=lock)
    repository.requests.clear()
    paths[3].write_bytes(damage)
    ensure_jars(tmp_path / "cache", lock=lock)
    assert paths[3].read_bytes() == JARS["org.example:part-3:1.3"]
    assert {name for name in repository.requests if name.endswith(".jar")} == {_path("org.example:part-3:1.3")}


@pytest.mark.parametrize("cuts_off", [False, True], ids=["refuses", "cuts off"])
def test_a_repository_that_fails_at_first_is_asked_again(
    repository: Repository, lock: Path, tmp_path: Path, cuts_off: bool
) -> None:
    repository.fails_first, repository.cuts_off = 1, cuts_off
    paths = ensure_jars(tmp_path / "cache", lock=lock)
    assert [path.read_bytes() for path in paths] == list(JARS.values())


def test_a_jar_that_is_never_given_is_named(repository: Repository, lock: Path, tmp_path: Path) -> None:
    del repository.files[_path("org.example:part-4:1.4")]
    with pytest.raises(SourceUnreachable, match=r"org\.example:part-4:1\.4 could not be fetched in 4 attempts"):
        ensure_jars(tmp_path / "cache", lock=lock)
    assert repository.requests[_path("org.example:part-4:1.4")] == 4


def test_an_unreachable_repository_is_named_with_what_to_do(
    lock_of_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jgo", reason="needs the 'broker' extra")
    _use_repository(tmp_path, monkeypatch, port=1)
    with pytest.raises(SourceUnreachable) as caught:
        ensure_jars(tmp_path / "cache", lock=lock_of_one)
    assert str(caught.value) == (
        "org.example:part-0:1.0 could not be fetched in 4 attempts from http://127.0.0.1:1 "
        f"([Errno {errno.ECONNREFUSED}] Connection refused): "
        "check the network, or name a mirror under [repositories] in ~/.config/jgo.conf"
    )


@pytest.fixture
def encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository behind TLS that holds nothing; its certificate's file, which no variable names."""
    pytest.importorskip("jgo", reason="needs the 'broker' extra")
    openssl = shutil.which("openssl") or pytest.skip("needs openssl to make a certificate")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=a test",
    ]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *made, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # a client that does not trust us hangs up
            pass

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        _use_repository(tmp_path, monkeypatch, server.server_port, scheme="https")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield certificate
        server.shutdown()
        thread.join()
    gc.collect()


def test_a_certificate_that_is_not_trusted_is_told_from_an_unreachable_network(
    encrypted: Path, lock_of_one: Path
) -> None:
    with pytest.raises(SourceUnreachable, match=r"certificate verify failed.*in REQUESTS_CA_BUNDLE$"):
        ensure_jars(encrypted.parent / "cache", lock=lock_of_one)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_the_certificates_that_a_variable_names_are_trusted(
    encrypted: Path, lock_of_one: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(encrypted))
    before = dict(os.environ)
    with pytest.raises(SourceUnreachable) as caught:
        ensure_jars(encrypted.parent / "cache", lock=lock_of_one)
    assert "certificate" not in str(caught.value)  # it got as far as to find out that the jar is not there
    assert dict(os.environ) == before


def test_a_jar_with_another_digest_is_never_let_into_the_cache(
    repository: Repository, lock: Path, tmp_path: Path
) -> None:
    repository.files[_path("org.example:part-0:1.0")] = b"THE CONTENT OF PART 0" * 1000
    with pytest.raises(WrongDigest, match=r"org\.example:part-0:1\.0 was fetched 4 times"):
        ensure_jars(tmp_path / "cache", lock=lock)
    assert not (tmp_path / "cache" / "part-0-1.0.jar").exists()


def test_a_cache_that_is_no_folder_is_named(repository: Repository, lock: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file")
    with pytest.raises(CacheUnusable, match=f"the cache of Kafka's jars can't be used: {cache}"):
        ensure_jars(cache, lock=lock)


def test_processes_that_fill_one_cache_at_once_all_succeed(repository: Repository, lock: Path, tmp_path: Path) -> None:
    repository.fails_first = 1
    code = (
        "import sys; from pathlib import Path; from service.broker.artifacts import ensure_jars;"
        "ensure_jars(Path(sys.argv[1]), lock=Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), str(lock)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    jars = read_lock(lock)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(jar.filename for jar in jars)


def test_without_jgo_the_sentence_names_the_extra(lock: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['jgo'] = None; from pathlib import Path\n"
        "from service.broker.artifacts import ensure_jars, ResolverMissing\n"
        "try: ensure_jars(Path(sys.argv[1]), lock=Path(sys.argv[2]))\n"
        "except ResolverMissing as error: print(error)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cache"), str(lock)], capture_output=True, text=True, check=True
    )
    assert answer.stdout == (
        "Kafka's jars must be fetched and jgo is not installed: install Stridecast with its 'broker' extra\n"
    )


def test_the_shipped_lock_holds_kafka_whole_and_says_nothing_of_where_it_came_from() -> None:
    jars = read_lock()
    assert len(jars) == 45
    assert sum(jar.size for jar in jars) == 44_581_600
    assert {"org.apache.kafka:kafka_2.13:4.4.0", "org.slf4j:slf4j-simple:1.7.36"} <= {jar.coordinate for jar in jars}
    assert all(len(jar.sha256) == 64 and jar.coordinate.count(":") == 2 for jar in jars)


def test_the_documentation_calls_those_versions_of_kafka_tested_that_tests_can_run_against() -> None:
    told = (ROOT / "docs/operations.md").read_text().partition("## Kafka versions")[2].partition("\n## ")[0]
    tested = re.findall(r"^\| (\d\S+)", told, re.MULTILINE)
    others = {path.stem.removeprefix("kafka-") for path in (ROOT / "tests/kafka/versions").iterdir()}
    assert sorted(tested) == sorted({KAFKA_VERSION, *others})
    assert tested == sorted(tested, key=lambda version: [int(number) for number in version.split(".")], reverse=True)


def test_a_jar_is_filed_as_maven_names_it() -> None:
    assert Jar("org.apache.kafka:kafka_2.13:4.4.0", 1, "0" * 64).filename == "kafka_2.13-4.4.0.jar"


def test_every_error_is_an_artifact_error() -> None:
    assert all(issubclass(kind, ArtifactError) for kind in (SourceUnreachable, WrongDigest, CacheUnusable))
