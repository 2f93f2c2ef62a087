from pathlib import Path

import pytest

import windowing
from service.configuration.settings import Settings, SettingsError
from service.configuration.settings_reading import load


def read(*arguments: str) -> Settings:
    return load(Settings, list(arguments), "stridecast test")


def test_defaults_are_those_of_the_contract() -> None:
    settings = read()
    assert settings.activity.input_topic == "accelerometer"
    assert settings.activity.output_topic == "activities"
    assert settings.activity.dead_letter_topic == "accelerometer.dead-letters"
    activity = settings.activity
    assert (activity.lateness_slots, activity.max_gap_ms, activity.idle_timeout_s) == (
        windowing.LATENESS_SLOTS,
        windowing.MAX_GAP_MS,
        windowing.IDLE_TIMEOUT_S,
    )
    assert activity.max_ahead_s == 3600
    text = settings.text
    assert (text.input_topic, text.output_topic, text.dead_letter_topic) == (
        "texts",
        "text-labels",
        "texts.dead-letters",
    )
    assert (text.bundle, text.max_bytes) == ("subjectivity", 65_536)
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 9464)
    assert settings.delivery == "at_least_once"


def test_a_folder_that_is_set_to_nothing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the working folder, and windows of people's lives be kept there."""
    monkeypatch.setenv("STRIDECAST_ACTIVITY__KEEP__FOLDER", "")
    assert read().activity.keep.folder is None
    assert read("--activity.keep.folder", "here").activity.keep.folder == Path("here")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--http.port", "99999"], "http.port = '99999'"),
        (["--http.port", "none"], "http.port = 'none'"),
        (["--kafka.group-id", ""], "kafka.group_id = ''"),
        (["--activity.input-topic", "no spaces"], "activity.input_topic = 'no spaces'"),
        (["--activity.input-topic", ".."], "activity.input_topic = '..': not in the form that is accepted"),
        (["--activity.lateness-slots", "-1"], "activity.lateness_slots = '-1'"),
        (["--activity.idle-timeout-s", "0"], "activity.idle_timeout_s = '0'"),
        (["--activity.max-gap-ms", "nan"], "activity.max_gap_ms = 'nan'"),
        (["--text.output-topic", ""], "text.output_topic = ''"),
        (["--text.max-bytes", "0"], "text.max_bytes = '0'"),
        (["--text.dead-letter-topic", "texts"], "text = {'dead_letter_topic': 'texts'}: input_topic, output_topic and"),
        (["--activity.output-topic", "accelerometer"], "must differ, or the worker reads what it writes"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_value(arguments: list[str], says: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(*arguments)
    assert says in str(refusal.value)


def test_a_topic_may_have_dots() -> None:
    for name in (".a", "a..", "...", "a.b", "-"):
        assert read("--activity.input-topic", name).activity.input_topic == name


def test_brokers_need_a_port() -> None:
    assert read("--kafka.bootstrap-servers", "a:1, [::1]:2").kafka.bootstrap_servers == "a:1, [::1]:2"
    for wrong in ("localhost", "a:1,b", "a:1,,b:2", ":"):
        with pytest.raises(SettingsError, match=r"kafka\.bootstrap_servers = .*host:port"):
            read("--kafka.bootstrap-servers", wrong)


SASL = ["--kafka.security-protocol", "SASL_SSL", "--kafka.sasl-mechanism", "SCRAM-SHA-512"]
USER = ["--kafka.sasl-username", "me"]
PASSWORD = ["--kafka.sasl-password", "hunter2"]
OAUTH = ["--kafka.security-protocol", "SASL_SSL", "--kafka.sasl-mechanism", "OAUTHBEARER"]
URL = ["--kafka.sasl-oauth-token-url", "https://me:hunter2@tokens.example"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kafka.security-protocol", "TLS"], "kafka.security_protocol = 'TLS'"),
        (["--kafka.security-protocol", "SASL_SSL"], "kafka.security_protocol SASL_SSL needs kafka.sasl_mechanism"),
        (["--kafka.sasl-mechanism", "GSSAPI"], "kafka.sasl_mechanism = 'GSSAPI'"),
        (SASL, "kafka.sasl_mechanism SCRAM-SHA-512 needs kafka.sasl_username"),
        ([*SASL, *USER], "needs kafka.sasl_password_file (or kafka.sasl_password)"),
        ([*SASL, *USER, *PASSWORD, "--kafka.sasl-password-file", "p"], "are both set: leave one out"),
        (
            [*SASL, *USER, *PASSWORD, *URL],
            "kafka.sasl_oauth_token_url is for kafka.sasl_mechanism OAUTHBEARER",
        ),
        ([*OAUTH, *USER, *URL], "kafka.sasl_mechanism OAUTHBEARER needs kafka.sasl_password_file"),
        ([*OAUTH, *USER, *PASSWORD], "kafka.sasl_mechanism OAUTHBEARER needs kafka.sasl_oauth_token_url"),
        (PASSWORD, "kafka.sasl_password is of no use with kafka.security_protocol PLAINTEXT: that must be SASL_SSL"),
        (
            ["--kafka.security-protocol", "SSL", *USER],
            "kafka.sasl_username is of no use with",
        ),
        (["--kafka.ssl-ca-file", "ca"], "kafka.ssl_ca_file is of no use with kafka.security_protocol PLAINTEXT"),
        (["--kafka.security-protocol", "SSL", "--kafka.ssl-key-file", "k"], "needs kafka.ssl_certificate_file"),
    ],
)
def test_what_of_tls_and_sasl_cannot_work_together_is_refused(arguments: list[str], says: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(*arguments)
    assert says in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_secrets_are_not_in_what_settings_look_like() -> None:
    settings = read(*SASL, *USER, *PASSWORD)
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_a_secret_is_not_in_an_error_about_its_neighbour() -> None:
    with pytest.raises(SettingsError) as refusal:
        read(*SASL, *USER, *PASSWORD, "--kafka.session-timeout-s", "never")
    assert "kafka.session_timeout_s = 'never'" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_the_name_of_a_host_is_looked_at_unless_that_is_switched_off() -> None:
    assert read().kafka.ssl_check_hostname
    assert not read("--no-kafka.ssl-check-hostname").kafka.ssl_check_hostname
