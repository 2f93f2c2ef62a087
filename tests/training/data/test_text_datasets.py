"""Readers of labelled texts, on made-up files in the public forms."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.corpora import write_tar
from training.data import text_datasets
from training.data.files import DataError
from training.data.text_datasets import Dataset, read_corpus, strip_message

MESSAGE = """From: somebody
Subject: a test

somebody else writes:
> quoted words
my own words

more of them
--
a signature
"""


def subj(folder: Path, objective: bytes = b"a man walks .\n", subjective: bytes = b"what a film !\n") -> list[Path]:
    (folder / "plot.tok.gt9.5000").write_bytes(objective)
    (folder / "subj.subjective.gz").write_bytes(gzip.compress(subjective))
    return [folder / "plot.tok.gt9.5000", folder / "subj.subjective.gz"]


def test_sentences_have_the_label_of_their_file(tmp_path: Path) -> None:
    corpus = read_corpus("subj", subj(tmp_path))
    assert corpus.labels == ("objective", "subjective")
    assert corpus.texts == ("a man walks .", "what a film !")
    assert corpus.targets.tolist() == [0, 1]
    assert corpus.test is None
    assert [file.name for file in corpus.files] == ["plot.tok.gt9.5000", "subj.subjective.gz"]


def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path: Path) -> None:
    """SUBJ holds the byte 0x85, an ellipsis in Windows-1252, which str.splitlines would take for a line's end."""
    corpus = read_corpus("subj", subj(tmp_path, subjective=b"well\x85 it is caf\xe9 chic\n\n\x81 odd\n"))
    assert corpus.texts[1:] == ("well… it is café chic", "\x81 odd")


def test_a_file_whose_class_its_name_does_not_tell_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a sentence\n")
    with pytest.raises(DataError, match=r"mine\.txt: which class is it\? Name the files as they were published"):
        read_corpus("subj", [tmp_path / "mine.txt"])


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found only 'objective': give all files of the data set"):
        read_corpus("subj", subj(tmp_path)[:1])


def test_the_same_file_given_twice_is_refused(tmp_path: Path) -> None:
    one = subj(tmp_path)[0]
    with pytest.raises(DataError, match="given twice"):
        read_corpus("subj", [one, one])


def test_polarity_is_read_by_its_names(tmp_path: Path) -> None:
    (tmp_path / "rt-polarity.pos").write_bytes(b"a joy .\n")
    (tmp_path / "rt-polarity.neg").write_bytes(b"a bore .\n")
    corpus = read_corpus("mr", [tmp_path / "rt-polarity.pos", tmp_path / "rt-polarity.neg"])
    assert [corpus.labels[target] for target in corpus.targets] == ["positive", "negative"]


def test_questions_have_their_coarse_label_and_the_published_split(tmp_path: Path) -> None:
    (tmp_path / "train_5500.label").write_bytes(b"HUM:ind Who was Galileo ?\nNUM:date When was it ?\n")
    (tmp_path / "TREC_10.label").write_bytes(b"LOC:city Where is Pisa ?\n")
    corpus = read_corpus("trec", [tmp_path / "train_5500.label", tmp_path / "TREC_10.label"])
    assert corpus.labels == ("HUM", "LOC", "NUM")
    assert corpus.texts[0] == "Who was Galileo ?"
    assert corpus.test is not None
    assert corpus.test.tolist() == [False, False, True]


def test_a_line_that_is_no_question_is_named(tmp_path: Path) -> None:
    (tmp_path / "TREC.train").write_bytes(b"HUM:ind Who ?\nno label here\n")
    with pytest.raises(DataError, match=r"TREC\.train: line 2 is not of the form"):
        read_corpus("trec", [tmp_path / "TREC.train"])


@pytest.mark.parametrize(
    ("dataset", "members", "labels", "texts_read", "test"),
    [
        (
            "imdb",
            {
                "aclImdb/train/pos/0_9.txt": "très bon<br />".encode(),
                "aclImdb/test/neg/1_2.txt": b"bad",
                "aclImdb/train/unsup/2_0.txt": b"nobody knows",
                "aclImdb/README": b"read me",
            },
            ("negative", "positive"),
            ("très bon<br />", "bad"),
            [False, True],
        ),
        (
            "20news",
            {"20news-bydate-train/sci.space/1": b"moon \xe9", "20news-bydate-test/rec.autos/2": b"car"},
            ("rec.autos", "sci.space"),
            ("moon é", "car"),
            [False, True],
        ),
    ],
)
def test_archives_are_read_with_their_split(
    tmp_path: Path,
    dataset: Dataset,
    members: dict[str, bytes],
    labels: tuple[str, ...],
    texts_read: tuple[str, ...],
    test: list[bool],
) -> None:
    corpus = read_corpus(dataset, [write_tar(tmp_path / "archive.tar.gz", members)])
    assert corpus.labels == labels
    assert corpus.texts == texts_read
    assert corpus.test is not None
    assert corpus.test.tolist() == test


def test_an_archive_cut_short_is_one_sentence(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar.gz", {"aclImdb/train/pos/0_9.txt": bytes(range(256)) * 50})
    whole.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(DataError, match=r"cannot read .*a\.tar\.gz"):
        read_corpus("imdb", [whole])


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_with_a_wrong_byte_is_one_sentence(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    """In gzip it was a traceback: what zlib raises of a damaged stream is no OSError."""
    lines = b"".join(b"%d sentences\n" % number for number in np.random.default_rng(0).integers(0, 10**9, 500))
    whole = bytearray(compress(lines))
    whole[10] = 0xFF
    paths = subj(tmp_path)
    paths[1].write_bytes(whole)
    with pytest.raises(DataError, match=r"cannot read .*subj\.subjective\.gz"):
        read_corpus("subj", paths)


def test_members_and_texts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {f"aclImdb/train/pos/{i}_9.txt": b"word " * 40 for i in range(5)}
    path = write_tar(tmp_path / "a.tar.gz", members)
    with monkeypatch.context() as patch:
        patch.setattr(text_datasets, "MAX_TEXT_BYTES", 100)
        with pytest.raises(DataError, match="is 200 bytes; at most 100 are read"):
            read_corpus("imdb", [path])
    with monkeypatch.context() as patch:
        patch.setattr(text_datasets, "MAX_MEMBERS", 3)
        with pytest.raises(DataError, match="more than 3 members"):
            read_corpus("imdb", [path])
    monkeypatch.setattr(text_datasets, "MAX_TEXTS", 2)
    with pytest.raises(DataError, match="more than 2 texts"):
        read_corpus("imdb", [path])


def test_ones_own_csv_is_read_with_quotes_line_breaks_and_further_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        '\ufeffid,label,text\n1,ham,"one, two\nthree"\n2,spam,"say ""now"""\n\n3,eggs,ö\n', encoding="utf-8"
    )
    corpus = read_corpus("csv", [path])
    assert corpus.name == "mine.csv"
    assert corpus.labels == ("eggs", "ham", "spam")
    assert corpus.texts == ("one, two\nthree", 'say "now"', "ö")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ones_own_csv_may_end_its_lines_as_any_system_does(end: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(end.join(["text,label", f'"one, two{end}three",ham', "four,spam"]).encode())
    assert read_corpus("csv", [tmp_path / "mine.csv"]).texts == (f"one, two{end}three", "four")


def test_a_header_may_have_capitals_and_blanks_as_that_of_recordings(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("Text, LABEL\nwell,good\noh,bad\n")
    assert read_corpus("csv", [tmp_path / "mine.csv"]).labels == ("bad", "good")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"words,class\na,b\n", "the first line must name the columns `text` and `label`; it is 'words,class'"),
        (b"", "the first line must name the columns"),
        (b"text,label\nwell,good\na,b,c\n", "line 3 has 3 columns instead of 2: put a text that holds commas"),
        (b"text,label\nwell,\n", "line 2: a label is 1 to 100 characters, this one is ''"),
        (
            b"text,label\n" + b"well,good\n" * 5 + b"\xff,bad\n" + b"well,good\n" * 9,
            "mine.csv, line 7 is not UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 mine.csv",
        ),
        (b"text,label\nyes,who\nno,Who\n", "mine.csv: the labels 'Who' and 'who' differ in capitals alone"),
        (b'text,label\n"never closed,good\n', "a CSV in UTF-8 is needed"),
        (b"text,label\nwell,good\n", "found only 'good'"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_with_its_line_and_the_remedy(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_corpus("csv", [path])
    assert message in str(refused.value)
    assert "mine.csv" in str(refused.value)


@pytest.mark.parametrize(
    ("parts", "left"),
    [
        (("headers",), MESSAGE.split("\n\n", 1)[1]),
        (("headers", "footers"), "somebody else writes:\n> quoted words\nmy own words\n\nmore of them"),
        (("headers", "footers", "quotes"), "my own words\n\nmore of them"),
    ],
)
def test_parts_of_a_message_are_stripped(parts: tuple[text_datasets.MessagePart, ...], left: str) -> None:
    assert strip_message(MESSAGE, parts) == left


def test_only_messages_are_stripped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only the messages of 20news have headers to strip, not subj"):
        read_corpus("subj", subj(tmp_path), strip=["headers"])


@pytest.mark.recordings
def test_real_messages_are_stripped_as_scikit_learn_strips_them(recordings_folder: Path) -> None:
    news = pytest.importorskip("sklearn.datasets._twenty_newsgroups", exc_type=ImportError)
    corpus = read_corpus("20news", [recordings_folder / "20news-bydate.tar.xz"])
    for text in corpus.texts[::20]:
        theirs = news.strip_newsgroup_quoting(news.strip_newsgroup_footer(news.strip_newsgroup_header(text)))
        assert strip_message(text, ("headers", "footers", "quotes")) == theirs


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("dataset", "files", "counts", "test"),
    [
        ("subj", ["subj.objective.gz", "subj.subjective.gz"], [5000, 5000], None),
        ("mr", ["rt-polarity.pos.gz", "rt-polarity.neg.gz"], [5331, 5331], None),
        ("trec", ["TREC.train.gz", "TREC.test.gz"], [95, 1300, 1344, 1288, 916, 1009], 500),
    ],
)
def test_the_real_files_hold_what_was_published(
    recordings_folder: Path, dataset: Dataset, files: list[str], counts: list[int], test: int | None
) -> None:
    corpus = read_corpus(dataset, [recordings_folder / name for name in files])
    assert np.bincount(corpus.targets).tolist() == counts
    assert (None if corpus.test is None else int(corpus.test.sum())) == test
