"""Apache Kafka's jars: listed in a lock file with digests, cached, verified, fetched when missing.

The lock file `kafka-<version>.lock` beside this module lists every jar's Maven coordinate, size and SHA-256. So a fetch
resolves no dependencies, and a jar from any mirror is either the one that was tested, or refused. To upgrade Kafka,
change `KAFKA_VERSION` and run `python -m service.broker.artifacts`, which resolves the dependencies and writes the
lock.

Jars come from Maven Central, or from the repositories that jgo's own settings file names (`[repositories]` in
`~/.config/jgo.conf`, or the file that JGO_CONFIG_FILE names). Their TLS certificates are checked against the file that
REQUESTS_CA_BUNDLE names, else CURL_CA_BUNDLE, else SSL_CERT_FILE.

Errors:
    ArtifactError
    ├── ResolverMissing       jgo is not installed
    ├── SourceUnreachable     a jar could not be fetched, after several attempts
    ├── WrongDigest           a jar was fetched and is not the one in the lock
    └── CacheUnusable         the cache folder can't be created, read or written
"""

import hashlib
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.host.user_folders import cache_folder

KAFKA_VERSION = "4.4.0"
LOCK_FILE = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.lock")
ATTEMPTS = 4
DOWNLOADS_AT_ONCE = 4


class ArtifactError(Exception):
    """Kafka's jars are not available; the text is one sentence that says what to do."""


class ResolverMissing(ArtifactError):
    """The package that fetches Maven artifacts is not installed."""


class SourceUnreachable(ArtifactError):
    """A jar could not be fetched, after several attempts."""


class WrongDigest(ArtifactError):
    """A fetched jar is not the one that the lock file lists."""


class CacheUnusable(ArtifactError):
    """The cache folder can't be created, read or written."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock file: a Maven coordinate `group:artifact:version`, its size in bytes, its SHA-256."""

    coordinate: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """`artifact-version.jar`, as Maven repositories name it."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


Progress = Callable[[Jar, int, int], None]
"""Called after each fetched jar with the jar, the bytes fetched so far and the bytes to fetch in all."""


def default_cache() -> Path:
    """Return `$XDG_CACHE_HOME/stridecast/kafka-<version>`, with `~/.cache` if the variable is not set.

    Raises ArtifactError for a user without a home.
    """
    cache = cache_folder()
    if cache is None:
        raise ArtifactError("this user has no home folder to keep Kafka's jars in: set XDG_CACHE_HOME to a folder")
    return cache / f"kafka-{KAFKA_VERSION}"


def read_lock(path: Path = LOCK_FILE) -> list[Jar]:
    """Return the jars that a lock file lists, in its order."""
    lines = (line.split() for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return [Jar(coordinate, int(size), digest) for digest, size, coordinate in lines]


def missing_jars(jars: Sequence[Jar], cache: Path) -> list[Jar]:
    """Return the jars that the cache lacks, or holds with content that differs from the lock's.

    Raises CacheUnusable if the folder can't be read.
    """
    try:
        return [jar for jar in jars if not _is_intact(cache / jar.filename, jar)]
    except OSError as error:
        raise CacheUnusable(_cache_message(cache, error)) from error


def ensure_jars(cache: Path | None = None, *, lock: Path = LOCK_FILE, progress: Progress | None = None) -> list[Path]:
    """Return the paths of all of Kafka's jars, each verified against the lock; fetch missing and damaged ones.

    Several processes may do this at once on the same cache: each fetches into its own folder and moves verified jars
    into place.

    Raises an ArtifactError.
    """
    cache = default_cache() if cache is None else cache
    jars = read_lock(lock)
    if missing := missing_jars(jars, cache):
        _fetch(missing, cache, progress)
    return [cache / jar.filename for jar in jars]


def _is_intact(path: Path, jar: Jar) -> bool:
    try:
        if path.stat().st_size != jar.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _fetch(jars: Sequence[Jar], cache: Path, progress: Progress | None) -> None:
    """Fetch jars into the cache, a few at a time."""
    total = sum(jar.size for jar in jars)
    done = 0
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Beside the jars, so that moving one into place stays on one file system and is atomic.
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as scratch:
            maven = _maven(Path(scratch))
            with _trusted_certificates(), ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
                pending = {pool.submit(_fetch_one, maven, jar, cache): jar for jar in jars}
                try:
                    for future in as_completed(pending):
                        future.result()
                        done += pending[future].size
                        if progress:
                            progress(pending[future], done, total)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    except OSError as error:
        raise CacheUnusable(_cache_message(cache, error)) from error


@contextmanager
def _trusted_certificates() -> Iterator[None]:
    """Make the download trust the certificates in SSL_CERT_FILE, as most programs do.

    jgo leaves the choice to requests, which reads two other variables, so one of those is set meanwhile.
    """
    named = os.environ.get("SSL_CERT_FILE", "")
    if not Path(named).is_file() or any(os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")):
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = named
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]


def _fetch_one(maven: Any, jar: Jar, cache: Path) -> None:
    """Fetch one jar, in several attempts if needed: a source may fail once and succeed the next time."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            path = _download(maven, jar)
        except SourceUnreachable:
            if attempt == ATTEMPTS:
                raise
            time.sleep(0.125 * 2**attempt)
            continue
        if _is_intact(path, jar):
            os.replace(path, cache / jar.filename)
            return
        path.unlink()
    raise WrongDigest(
        f"{jar.coordinate} was fetched {ATTEMPTS} times and its SHA-256 is never the one in the lock file: "
        "something between here and the Maven repository alters it or cuts it off"
    )


def _maven(repository: Path) -> Any:
    """Return jgo's Maven context that downloads into the folder `repository`, from the user's mirrors if any."""
    try:
        # Imported here: it is an optional package, needed only when something has to be fetched.
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
    except ImportError as error:
        raise ResolverMissing(
            "Kafka's jars must be fetched and jgo is not installed: install Stridecast with its 'broker' extra"
        ) from error
    return MavenContext(repo_cache=repository, remote_repos=GlobalSettings.load().repositories or None)


def _download(maven: Any, jar: Jar) -> Path:
    """Download one jar into the Maven context's folder and return its path there."""
    from requests import RequestException

    group, artifact, version = jar.coordinate.split(":")
    wanted = maven.project(group, artifact).at_version(version).artifact()
    try:
        path: Path = wanted.resolve()
    except (RequestException, RuntimeError) as error:
        # jgo would take an incomplete download for the whole file the next time.
        wanted.cached_path.unlink(missing_ok=True)
        root = _root(error)
        remedy = (
            "name the file of the certificates that your network uses in REQUESTS_CA_BUNDLE"
            if isinstance(root, ssl.SSLCertVerificationError)
            else "check the network, or name a mirror under [repositories] in ~/.config/jgo.conf"
        )
        raise SourceUnreachable(
            f"{jar.coordinate} could not be fetched in {ATTEMPTS} attempts "
            f"from {', '.join(maven.remote_repos.values())} ({root}): {remedy}"
        ) from error
    return path


def _root(error: BaseException) -> BaseException:
    """Return the root cause of an error, such as a refused connection, which HTTP libraries wrap three times."""
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    return error


def _cache_message(cache: Path, error: OSError) -> str:
    where = error.filename or cache
    return (
        f"the cache of Kafka's jars can't be used: {where}: {error.strerror or error}; "
        "mend it, or name another parent folder in XDG_CACHE_HOME"
    )


def roots_of(version: str) -> tuple[str, str]:
    """Return what a lock is resolved from: the broker, and a logging back end: without, its errors are invisible."""
    return f"org.apache.kafka:kafka_2.13:{version}", "org.slf4j:slf4j-simple:1.7.36"


def resolve_lock(version: str) -> list[Jar]:
    """Resolve Kafka and its run-time dependencies from the Maven repository; return a jar for each, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        maven = _maven(Path(scratch))
        resolved, others = maven.resolver.resolve([maven.create_dependency(root) for root in roots_of(version)])
        needed = [*resolved, *(other for other in others if other.scope in ("compile", "runtime"))]
        return sorted((_measure(dependency.artifact) for dependency in needed), key=lambda jar: jar.coordinate)


def _measure(artifact: Any) -> Jar:
    content = artifact.resolve().read_bytes()
    coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    return Jar(coordinate, len(content), hashlib.sha256(content).hexdigest())


def write_lock(version: str = KAFKA_VERSION, path: Path = LOCK_FILE) -> None:
    """Resolve the jars of a version of Kafka and write their lock file."""
    lines = [f"{jar.sha256} {jar.size:>8} {jar.coordinate}" for jar in resolve_lock(version)]
    header = f"# SHA-256, bytes and Maven coordinate of every jar of {' and '.join(roots_of(version))}"
    path.write_text("\n".join([header, *lines]) + "\n")


if __name__ == "__main__":
    write_lock()
