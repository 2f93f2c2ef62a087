import pytest

from service.configuration.settings import Settings
from service.configuration.settings_environment import environment
from service.configuration.settings_reading import load


class Command(Settings):
    resume: bool = False


def read(*arguments: str) -> Command:
    return load(Command, list(arguments), "stridecast test")


def test_settings_reach_another_process_through_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's worker once listened to the default topics, whatever topics the demo had been told."""
    given = read("--activity.input-topic", "mine", "--inference.max-batch", "7", "--log-format", "json", "--resume")
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    received = read()
    assert received.activity.input_topic == "mine"
    assert received.inference.max_batch == 7
    assert received == given.model_copy(update={"resume": False})


def test_a_password_reaches_another_process_through_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    sasl = ["--kafka.security-protocol", "SASL_SSL", "--kafka.sasl-mechanism", "SCRAM-SHA-512"]
    given = read(*sasl, "--kafka.sasl-username", "me", "--kafka.sasl-password", "hunter2")
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    secret = read().kafka.sasl_password
    assert secret is not None
    assert secret.get_secret_value() == "hunter2"


def test_settings_travel_to_another_process_as_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    given = read("--kafka.group-id", "mine", "--http.port", "7")
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    assert read().model_dump(include={"kafka", "http"}) == given.model_dump(include={"kafka", "http"})
