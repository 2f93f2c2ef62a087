from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from pydantic_settings import CliPositionalArg

from service.configuration.settings import Settings, SettingsError
from service.configuration.settings_reading import leaves, load, near_names


class Command(Settings):
    data: list[Path] = Field(default=[])
    resume: bool = False


class WordsCommand(Settings):
    words: CliPositionalArg[list[str]] = Field(default=[])
    names: list[str] = Field(default=[])
    resume: bool = False


def read(*arguments: str) -> Command:
    return load(Command, list(arguments), "stridecast test")


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "stridecast.toml"
    config.write_text('[kafka]\nbootstrap_servers = "file:1"\ngroup_id = "file"\n[http]\nport = 1\n')
    monkeypatch.setenv("STRIDECAST_KAFKA__BOOTSTRAP_SERVERS", "environment:2")
    monkeypatch.setenv("STRIDECAST_HTTP__PORT", "2")
    settings = read("--config", str(config), "--http.port", "3")
    assert settings.kafka.group_id == "file"
    assert settings.kafka.bootstrap_servers == "environment:2"
    assert settings.http.port == 3


def test_flags_may_be_written_with_underscores_as_the_contract_names_them() -> None:
    assert read("--kafka.bootstrap_servers", "broker:9092").kafka.bootstrap_servers == "broker:9092"


def test_a_list_takes_several_words_and_keeps_commas_in_names() -> None:
    assert read("--data", "a,b", "c", "--resume").data == [Path("a,b"), Path("c")]


ANY_WORD = st.text(st.one_of(st.sampled_from("\"\\[]{},:= '-"), st.characters(codec="utf-8")))


@given(st.lists(ANY_WORD), st.lists(ANY_WORD.filter(lambda word: not word.startswith("-"))))
def test_lists_arrive_as_they_were_typed(words: list[str], names: list[str]) -> None:
    """Quotes in a word came with backslashes, and some words with brackets and quotes ended in a traceback."""
    command = load(WordsCommand, ["--names", *names, "--", *words], "stridecast test")
    assert (command.words, command.names) == (words, names)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--kafka.group-id", "mine", "one", "two"],
        ["one", "two", "--kafka.group-id=mine"],
        ["one", "--kafka.group-id", "mine", "two", "--resume"],
        ["--resume", "one", "--kafka.group-id", "mine", "--", "two"],
    ],
)
def test_words_and_flags_may_come_in_any_order(arguments: list[str]) -> None:
    command = load(WordsCommand, arguments, "stridecast test")
    assert (command.words, command.kafka.group_id) == (["one", "two"], "mine")


def test_words_have_no_flag() -> None:
    with pytest.raises(SettingsError, match="--words is no flag of this command"):
        load(WordsCommand, ["--words", "one"], "stridecast test")


def test_a_wrong_value_in_the_environment_says_what_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIDECAST_DELIVERY", "maybe_once")
    with pytest.raises(SettingsError, match=r"delivery = 'maybe_once'.*'at_least_once'"):
        read()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("STRIDECAST_HTTPP__PORT", "STRIDECAST_HTTPP__PORT = '1' is no setting; did you mean STRIDECAST_HTTP__PORT"),
        ("STRIDECAST_HTTP__PROT", "STRIDECAST_HTTP__PROT = '1' is no setting; did you mean STRIDECAST_HTTP__PORT"),
        ("STRIDECAST_KAFKA_GROUP_ID", "did you mean STRIDECAST_KAFKA__GROUP_ID"),
    ],
)
def test_an_unknown_variable_is_refused_by_name(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=says):
        read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STRIDECAST_KAFKA__PASSWORT_PASSWORD", "hunter2"),
        ("STRIDECAST_KAFKA__SASL_PASSWD", "hunter2"),
        ("STRIDECAST_KAFKA__SASL_PASS", "hunter2"),
        ("STRIDECAST_KAFKA_PW", "hunter2"),
        ("STRIDECAST_KAKFA__PW", "hunter2"),
        ("STRIDECAST_kafka__pw", "hunter2"),
        ("STRIDECAST_HTTP__KAFKA__SASL_PASSWORD", "hunter2"),
        ("STRIDECAST_SASL_PASWORD", "hunter2"),
        ("STRIDECAST_KAFKA", '{"sasl_password": "hunter2"}'),
        ("STRIDECAST_KFK", '{"sasl_password": "hunter2"}'),
    ],
)
def test_what_may_be_a_secret_in_an_unknown_variable_is_not_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name} is no setting") as refusal:
        read()
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        '[kafka]\nsasl_pasword = "hunter2"\n',
        '[kafka]\nsasl_password = ["hunter2"]\n',
        '[kafka]\nsasl_oauth_token_url = ["https://me:hunter2@tokens.example"]\n',
        '[kafka.sasl]\npw = "hunter2"\n',
        '[[kafka]]\nsasl_password = "hunter2"\n',
        '[[kafak]]\npw = "hunter2"\n',
        '[[brokers]]\nsasl_password = "hunter2"\n',
        '[http.kafka]\npw = "hunter2"\n',
        'kafka = "hunter2"\n',
        'sasl_pasword = "hunter2"\n',
        'STRIDECAST_KAFKA__SASL_PASSWORD = "hunter2"\n',
    ],
)
def test_what_may_be_a_secret_in_a_wrong_file_is_not_shown(text: str, tmp_path: Path) -> None:
    config = tmp_path / "stridecast.toml"
    config.write_text(text)
    with pytest.raises(SettingsError) as refusal:
        read("--config", str(config))
    assert "hunter2" not in str(refusal.value)


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "stridecast.toml"
    config.write_text("[activity]\nlatenes_slots = 3\n")
    with pytest.raises(SettingsError, match=r"activity\.latenes_slots = 3 in .*stridecast\.toml"):
        read("--config", str(config))


def test_a_commands_own_option_is_no_setting_for_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIDECAST_RESUME", "true")
    with pytest.raises(SettingsError, match="STRIDECAST_RESUME = 'true' is no setting"):
        read()


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Editors on Windows write one: the file was said to be no TOML, at a place where nobody sees anything."""
    config = tmp_path / "stridecast.toml"
    config.write_bytes(b'\xef\xbb\xbfdelivery = "exactly_once"\n')
    assert read("--config", str(config)).delivery == "exactly_once"


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    """It ended in a traceback."""
    config = tmp_path / "stridecast.toml"
    config.write_text("x = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(SettingsError, match="is not TOML"):
        read("--config", str(config))


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        read("--config", str(tmp_path / "nowhere.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("[kafka")
    with pytest.raises(SettingsError, match="is not TOML"):
        read(f"--config={broken}")


def test_an_unknown_flag_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(
        SettingsError, match=r"^--bootstrap-servers is no flag .*; did you mean --kafka\.bootstrap-servers\?$"
    ):
        read("--bootstrap-servers", "broker:9092")
    with pytest.raises(SettingsError, match=r"^--frobnicate is no flag of this command; --help lists all$"):
        read("--frobnicate")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["surplus"], "'surplus' belongs to no flag; --help lists all"),
        (["--kafka.group-id"], "--kafka.group-id needs a value after it"),
        (["--kafka.group-id", "--resume"], "--kafka.group-id needs a value after it"),
    ],
)
def test_words_too_many_and_too_few_are_refused_in_one_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """argparse's usage lines came before what was wrong."""
    with pytest.raises(SettingsError) as refusal:
        read(*arguments)
    assert str(refusal.value) == says
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("kafka.bootstrap_server", ["kafka.bootstrap_servers"]),
        ("kafka.sasl_user", ["kafka.sasl_username"]),
        ("kafka.ssl_files", ["kafka.ssl_ca_file", "kafka.ssl_key_file"]),
        ("frobnicate", []),
    ],
)
def test_only_what_was_probably_meant_is_proposed(given: str, meant: list[str]) -> None:
    """For a forgotten s it proposed the user and the key, too."""
    assert near_names(given, [name for name, _ in leaves(Settings)]) == meant


def test_a_wrong_value_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had a file, variables and flags had to look for it in all three."""
    config = tmp_path / "stridecast.toml"
    config.write_text("[http]\nport = -1\n[kafka]\nsession_timeout_s = 'hunter'\n")
    with pytest.raises(SettingsError) as refusal:
        read("--config", str(config))
    first, second = str(refusal.value).splitlines()
    assert first.startswith(f"kafka.session_timeout_s = 'hunter' in {config}: input should be a valid number")
    assert second.startswith(f"http.port = -1 in {config}: input should be")
    monkeypatch.setenv("STRIDECAST_HTTP__PORT", "-2")
    with pytest.raises(SettingsError, match=r"http\.port = '-2' in STRIDECAST_HTTP__PORT: input should be"):
        read("--config", str(config))
    with pytest.raises(SettingsError, match=r"http\.port = '-3': input should be"):
        read("--http.port", "-3", "--config", str(config))
