"""Public data sets of labelled texts, and your own CSV, read into a corpus.

    subj     subjectivity v1.0 (Pang, Lee, ACL 2004): one file of objective and one of subjective sentences
    mr       sentence polarity v1.0 (Pang, Lee, ACL 2005): rt-polarity.pos and rt-polarity.neg
    trec     questions (Li, Roth, COLING 2002): a training and a test file of lines `COARSE:fine question`
    20news   20 Newsgroups, "bydate" (Lang; Rennie): the archive, with its split
    imdb     Large Movie Review v1.0 (Maas et al., ACL 2011): the archive, with its split
    csv      your own: a header with the columns `text` and `label`, UTF-8, any number of labels

Files may be plain or compressed (gzip, bzip2, xz). They are untrusted: archives are read member by member in memory, no
path in one is ever written to, and the sizes of files, members, lines and texts are bounded. A file that cannot be read
raises `DataError`.
"""

import csv
import io
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from training.data.files import READ_ERRORS, DataError, opened, reason, sha256
from training.wording.phrases import some_of

Dataset = Literal["subj", "mr", "trec", "20news", "imdb", "csv"]
MessagePart = Literal["headers", "footers", "quotes"]

MAX_TEXTS = 2_000_000
MAX_TEXT_BYTES = 4 << 20
MAX_MEMBERS = 200_000
MAX_LABELS = 1_000
MAX_LABEL_LENGTH = 100


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that was read, with its SHA-256 as stored."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Labelled texts: `targets` int64[n], index into `labels`.

    `test` bool[n] marks the test texts of the data set's own split; None if it has none. `own` is true of your own
    texts, and false of a public data set. `warnings` say which rows of your own are not
    among the texts, and whether most are repeated.
    """

    name: str
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    targets: np.ndarray
    test: np.ndarray | None
    files: tuple[TextFile, ...]
    own: bool = False
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class _Row:
    text: str
    label: str
    test: bool | None = None
    line: int = 0  # of your own CSV
    file: str = ""


def read_corpus(
    dataset: Dataset, paths: Sequence[Path], *, strip: Collection[MessagePart] = (), console: Console | None = None
) -> Corpus:
    """Read the files of one data set; `strip` removes parts of the messages of 20 Newsgroups.

    Of your own texts, empty ones are left out.

    Raises `DataError` if a file is missing, damaged, over the bounds or not of this data set.
    """
    if strip and dataset != "20news":
        raise DataError(f"only the messages of 20news have {', '.join(sorted(strip))} to strip, not {dataset}")
    rows: list[_Row] = []
    files = []
    for path in map(Path, paths):
        try:
            files.append(TextFile(path.name, sha256(path)))
            with opened(path, console) as content:
                for row in _READERS[dataset](content, path):
                    rows.append(row)
                    if len(rows) > MAX_TEXTS:
                        raise DataError(f"more than {MAX_TEXTS:,} texts: leave some out")
        except READ_ERRORS as error:
            raise DataError(f"cannot read {path}: {reason(error)}") from error
    _refuse_repeated(files)
    if strip:
        rows = [_Row(strip_message(row.text, strip), row.label, row.test) for row in rows]
    if dataset != "csv":
        return _corpus(_NAMES[dataset], rows, files)
    warnings = (*_warnings_of_empty(rows), *_warnings_of_repeated(rows))
    return _corpus(Path(paths[0]).name, [row for row in rows if row.text], files, warnings, own=True)


def _refuse_repeated(files: Sequence[TextFile]) -> None:
    repeated = [digest for digest, times in Counter(file.sha256 for file in files).items() if times > 1]
    if repeated:
        names = ", ".join(file.name for file in files if file.sha256 in repeated)
        raise DataError(f"the same data is given twice ({names}): name each file once")


def _corpus(
    name: str, rows: Sequence[_Row], files: Sequence[TextFile], warnings: Sequence[str] = (), *, own: bool = False
) -> Corpus:
    labels = tuple(sorted({row.label for row in rows}))
    if not 2 <= len(labels) <= MAX_LABELS:
        found = f"only {labels[0]!r}" if labels else "none"
        found = f"{len(labels):,}" if len(labels) > MAX_LABELS else found
        raise DataError(
            f"{', '.join(file.name for file in files)}: 2 to {MAX_LABELS:,} labels are needed to tell apart, "
            f"found {found}: give all files of the data set{''.join(f'. {told}' for told in warnings)}"
        )
    spelt: dict[str, str] = {}
    for label in labels if own else ():
        if spelt.setdefault(label.casefold(), label) != label:
            names = ", ".join(file.name for file in files)
            raise DataError(
                f"{names}: the labels {spelt[label.casefold()]!r} and {label!r} differ "
                "in capitals alone: write them alike"
            )
    index = {label: number for number, label in enumerate(labels)}
    split = [row.test for row in rows]
    return Corpus(
        name=name,
        labels=labels,
        texts=tuple(row.text for row in rows),
        targets=np.array([index[row.label] for row in rows], np.int64),
        test=None if None in split else np.array(split, bool),
        files=tuple(files),
        own=own,
        warnings=tuple(warnings),
    )


# --- a text a line -------------------------------------------------------------------------------


def _lines(content: io.BufferedReader, path: Path) -> Iterator[tuple[int, str]]:
    r"""Yield non-empty lines, with their numbers from 1.

    These sets are in Windows-1252. Lines end at \n only: SUBJ holds the byte 0x85, which Unicode calls a line end.
    """
    number = 0
    while line := content.readline(MAX_TEXT_BYTES + 1):
        number += 1
        if len(line) > MAX_TEXT_BYTES:
            raise DataError(f"{path.name}: line {number} is longer than {MAX_TEXT_BYTES:,} bytes")
        if text := _windows_1252(line).strip(" \t\r\n"):
            yield number, text


def _windows_1252(data: bytes) -> str:
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:  # five bytes mean nothing in it
        return data.decode("latin-1")


def _named(labels: Mapping[str, str], other: str) -> Callable[[io.BufferedReader, Path], Iterator[_Row]]:
    """Return a reader of files of one class each, which the file name tells."""

    def read(content: io.BufferedReader, path: Path) -> Iterator[_Row]:
        found = [label for part, label in labels.items() if part in path.name.lower()]
        if len(set(found)) != 1:
            raise DataError(f"{path.name}: which class is it? Name the files as they were published: {other}")
        for _, text in _lines(content, path):
            yield _Row(text, found[0])

    return read


_QUESTION = re.compile(r"([A-Z]{2,8}):[a-z]{1,16} (.+)", re.DOTALL)


def _read_trec(content: io.BufferedReader, path: Path) -> Iterator[_Row]:
    # Published as train_5500.label and TREC_10.label, and passed on as TREC.train and TREC.test.
    test = "test" in path.name.lower() or "trec_10" in path.name.lower()
    for number, line in _lines(content, path):
        found = _QUESTION.fullmatch(line)
        if not found:
            raise DataError(f"{path.name}: line {number} is not of the form `COARSE:fine question`: {line[:60]!r}")
        yield _Row(found[2], found[1], test)


# --- archives ------------------------------------------------------------------------------------

_REVIEW = re.compile(r"aclImdb/(train|test)/(pos|neg)/\d{1,9}_\d{1,2}\.txt")
_MESSAGE = re.compile(r"20news-bydate-(train|test)/([a-z0-9.-]{1,100})/\d{1,9}")


def _archived(
    wanted: re.Pattern[str], encoding: str, names: Mapping[str, str]
) -> Callable[[io.BufferedReader, Path], Iterator[_Row]]:
    """Return a reader of a tar archive whose member paths tell the split and the class."""

    def read(content: io.BufferedReader, path: Path) -> Iterator[_Row]:
        with _tar(content, path) as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS:
                    raise DataError(f"{path.name} has more than {MAX_MEMBERS:,} members: not this data set")
                found = wanted.search(member.name)
                if found and member.isfile():
                    text = _content(archive, member).decode(encoding, "replace")
                    yield _Row(text, names.get(found[2], found[2]), found[1] == "test")

    return read


def _tar(content: io.BufferedReader, path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=content, mode="r|")
    except tarfile.ReadError as error:
        raise DataError(
            f"{path.name} is no tar archive, as this data set is published ({error}); for a CSV: --dataset csv"
        ) from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_TEXT_BYTES:
        raise DataError(f"{member.name} is {member.size:,} bytes; at most {MAX_TEXT_BYTES:,} are read")
    file = archive.extractfile(member)
    assert file is not None  # a regular file always has one
    return file.read()


# --- your own CSV --------------------------------------------------------------------------------


def _read_csv(content: io.BufferedReader, path: Path) -> Iterator[_Row]:
    rows = csv.reader(_utf8_lines(content, path), strict=True)
    limit = csv.field_size_limit(MAX_TEXT_BYTES)  # of the whole process
    try:
        header = next(rows, [])
        names = [name.strip().lower() for name in header]
        if {"text", "label"} - set(names):
            raise DataError(
                f"{path.name}: the first line must name the columns `text` and `label`; it is {','.join(header)[:80]!r}"
            )
        columns = names.index("text"), names.index("label")
        for row in rows:
            if row:
                yield _csv_row(row, header, columns, path.name, rows.line_num)
    except csv.Error as error:
        raise DataError(f"{path.name}: line {rows.line_num}: {error}; a CSV in UTF-8 is needed") from error
    finally:
        csv.field_size_limit(limit)


_AFTER_CR = re.compile(r"(?<=\r)(?!\n)")  # a line may end so, too, and `readline` doesn't know


def _utf8_lines(content: io.BufferedReader, path: Path) -> Iterator[str]:
    """Yield lines with their ends; raises `DataError` that names the first line that isn't UTF-8."""
    number = 0
    while line := content.readline(MAX_TEXT_BYTES + 1):
        number += 1
        if len(line) > MAX_TEXT_BYTES:
            raise DataError(f"{path.name}: line {number} is longer than {MAX_TEXT_BYTES:,} bytes")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise DataError(
                f"{path.name}, line {number} is not UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 {path.name}"
            ) from None
        yield from filter(None, _AFTER_CR.split(text))


def _csv_row(row: list[str], header: list[str], columns: tuple[int, int], file: str, line: int) -> _Row:
    where = f"{file}: line {line}"
    if len(row) != len(header):
        raise DataError(
            f"{where} has {len(row)} columns instead of {len(header)}: put a text that holds commas in double quotes"
        )
    text, label = (row[column].strip() for column in columns)
    if not label or len(label) > MAX_LABEL_LENGTH:
        raise DataError(f"{where}: a label is 1 to {MAX_LABEL_LENGTH} characters, this one is {label[:120]!r}")
    return _Row(text, label, line=line, file=file)


def _warnings_of_empty(rows: Sequence[_Row]) -> Iterator[str]:
    empty: dict[str, list[int]] = {}
    for row in rows:
        if not row.text:
            empty.setdefault(row.file, []).append(row.line)
    for file, lines in empty.items():
        yield f"{file}: {_rows_of(lines)} no text: left out"


def _warnings_of_repeated(rows: Sequence[_Row]) -> Iterator[str]:
    """Ask about rows of which most repeat others; fewer are what people often write, such as "thanks"."""
    texts = [(row.text, row.label) for row in rows if row.text]
    if (repeated := len(texts) - len(set(texts))) and 2 * repeated >= len(texts):
        yield (
            f"{repeated:,} of {len(texts):,} rows repeat the text and label of an earlier row, and all count: "
            "is a file's content in it twice, or given twice?"
        )


def _rows_of(lines: Sequence[int]) -> str:
    if len(lines) == 1:
        return f"1 row (line {lines[0]}) has"
    return f"{len(lines):,} rows (lines {some_of([str(line) for line in lines])}) have"


# --- 20 Newsgroups: what is not the message ------------------------------------------------------

_QUOTED = re.compile(r"(writes in|writes:|wrote:|says:|said:|^In article|^Quoted from|^\||^>)")


def strip_message(text: str, parts: Collection[MessagePart]) -> str:
    """Remove a message's header, its signature and the lines that it quotes, as `parts` says.

    Equivalent to scikit-learn's `fetch_20newsgroups(remove=...)`, so that scores can be compared.
    """
    if "headers" in parts:
        text = text.partition("\n\n")[2]
    if "footers" in parts:
        text = _without_footer(text)
    if "quotes" in parts:
        text = "\n".join(line for line in text.split("\n") if not _QUOTED.search(line))
    return text


def _without_footer(text: str) -> str:
    """Return the text up to its last line that is blank or dashes, unless that is the first."""
    lines = text.strip().split("\n")
    blank = [number for number, line in enumerate(lines) if not line.strip().strip("-")]
    return "\n".join(lines[: blank[-1]]) if blank and blank[-1] > 0 else text


_READERS: Mapping[Dataset, Callable[[io.BufferedReader, Path], Iterator[_Row]]] = {
    "subj": _named(
        {"objective": "objective", "plot": "objective", "subjective": "subjective", "quote": "subjective"},
        "subj.objective and subj.subjective, or plot.tok.gt9.5000 and quote.tok.gt9.5000",
    ),
    "mr": _named({".pos": "positive", ".neg": "negative"}, "rt-polarity.pos and rt-polarity.neg"),
    "trec": _read_trec,
    "20news": _archived(_MESSAGE, "latin-1", {}),
    "imdb": _archived(_REVIEW, "utf-8", {"pos": "positive", "neg": "negative"}),
    "csv": _read_csv,
}
_NAMES: Mapping[Dataset, str] = {
    "subj": "SUBJ v1.0",
    "mr": "MR v1.0",
    "trec": "TREC",
    "20news": "20 Newsgroups",
    "imdb": "IMDb v1.0",
    "csv": "",
}
