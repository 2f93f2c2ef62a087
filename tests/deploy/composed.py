"""The compose file and the Dockerfile as the tests read them."""

import importlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.cli import COMMANDS
from service.configuration.settings import ServiceSettings, TopicSettings
from service.configuration.settings_reading import load
from tests.deploy.tools import ROOT

DEPLOY = ROOT / "deploy"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
Service = dict[str, Any]


@cache
def services() -> dict[str, Service]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"])


def ours() -> dict[str, Service]:
    """Those services that run the image that is built here."""
    return {name: service for name, service in services().items() if service["image"].startswith("stridecast:")}


def mounts(service: Service) -> dict[str, Path]:
    """The files and folders of this repository that a container sees, by their place there."""
    pairs = [volume.split(":")[:2] for volume in service.get("volumes", [])]
    return {place: DEPLOY / source for source, place in pairs if source.startswith(".")}


def image_environment() -> dict[str, str]:
    """The settings that the image itself makes."""
    return dict(re.findall(r"^ {4}(STRIDECAST_\w+)=(\S+)", DOCKERFILE, re.MULTILINE))


def accepted(
    command: list[str], environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> ServiceSettings | TopicSettings:
    """Read a command's settings as the program does; raises what it says of those it doesn't accept."""
    for name in [name for name in os.environ if name.startswith("STRIDECAST_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = next(count for count in (2, 1) if " ".join(command[:count]) in COMMANDS)
    module = importlib.import_module(COMMANDS[" ".join(command[:words])][0])
    settings: ServiceSettings | TopicSettings = load(module.Options, command[words:], "stridecast")
    return settings


def seconds(duration: str) -> float:
    assert duration.endswith("s"), duration
    return float(duration[:-1])


def health_command() -> list[str]:
    """What the image's health check runs."""
    found = re.search(r"^HEALTHCHECK.*\\\n\s*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    return list(json.loads(found[1]))
