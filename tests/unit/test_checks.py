"""Each system check reports its own settings, and is silent when they are fine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import checks as django_checks
from django.core.checks.registry import registry
from pytest_django import Settings

from gateway_project import checks
from routing.models import Provider, ProviderKey

ROOT = Path(__file__).resolve().parents[2]
LONG_KEY = "only-for-these-tests-9f8d7a6b5c4e3f2a1b0c9d8e7f6a5b4c"
DEPLOYED = {
    "HOST": "0.0.0.0",
    "ON_LOOPBACK": False,
    "HTTPS": True,
    "GATEWAY_AUTH": "required",
    "ALLOWED_HOSTS": ["gateway.example"],
    "SECRET_KEY": LONG_KEY,
    "CORS_ALLOWED_ORIGINS": [],
    "CORS_ALLOWED_ORIGIN_REGEXES": [],
    "WEB_CONCURRENCY": 2,
    "DATABASE_URL_IGNORED": (),
}
ON_LOOPBACK = {"HOST": "127.0.0.1", "ON_LOOPBACK": True, "HTTPS": False, "GATEWAY_AUTH": "open"}


@pytest.fixture
def deployed(settings: Settings, tmp_path: Path) -> Settings:
    """A deployment that no check reports."""
    return change(settings, DATA_DIR=tmp_path, **DEPLOYED)


def change(settings: Settings, **values: Any) -> Settings:
    for name, value in values.items():
        setattr(settings, name, value)
    return settings


def found(*databases: str) -> list[str]:
    messages = django_checks.run_checks(tags=[checks.TAG], include_deployment_checks=True, databases=databases)
    assert all(message.hint for message in messages)
    return sorted(str(message.id) for message in messages)


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ({}, []),
        (ON_LOOPBACK, []),
        ({"GATEWAY_AUTH": "open"}, ["gateway.W001"]),
        ({"HTTPS": False}, ["gateway.W002"]),
        ({"ALLOWED_HOSTS": ["gateway.example", "*"]}, ["gateway.W003"]),
        ({"SECRET_KEY": LONG_KEY[:49]}, ["gateway.W004"]),
        ({"SECRET_KEY": "abcd" * 20}, ["gateway.W004"]),
        ({"CORS_ALLOWED_ORIGINS": ["https://a.example"]}, []),
        ({**ON_LOOPBACK, "CORS_ALLOWED_ORIGINS": ["https://a.example"]}, ["gateway.W005"]),
        ({**ON_LOOPBACK, "CORS_ALLOWED_ORIGIN_REGEXES": ["x"]}, ["gateway.W005"]),
        ({"DATABASE_URL_IGNORED": ("pgbouncer",)}, ["gateway.W009"]),
        ({"HTTPS": False, "ALLOWED_HOSTS": ["*"]}, ["gateway.W002", "gateway.W003"]),
    ],
)
def test_odd_settings_are_found_and_sound_ones_are_not(
    deployed: Settings, values: dict[str, Any], ids: list[str]
) -> None:
    change(deployed, **values)
    assert found() == ids


def test_a_secret_key_that_others_may_read_is_found(deployed: Settings, tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch(0o600)
    assert found() == []
    (tmp_path / "secret_key").chmod(0o640)
    assert found() == ["gateway.W006"]


@pytest.mark.django_db
def test_more_workers_than_the_database_has_connections_for_are_found(deployed: Settings) -> None:
    User.objects.create_superuser("olga")
    assert found("default") == []
    deployed.WEB_CONCURRENCY = 256
    assert found("default") == ["gateway.W007"]
    assert found() == []  # without a database's name the checks look at the settings alone


@pytest.mark.django_db
def test_keys_that_may_not_be_read_are_found(deployed: Settings) -> None:
    User.objects.create_superuser("olga")
    row = Provider.objects.create(name="mine", litellm_provider="openai", key_reference="env:SECRET_KEY")
    Provider.objects.create(name="cloud", litellm_provider="bedrock", parameters={"aws_role": "os.environ/ROLE"})
    ProviderKey.objects.create(provider=row, key_reference="file:/etc/hostname")
    messages = checks.keys_may_be_read(databases=["default"])
    assert found("default") == ["gateway.W008"] * 3
    said = " ".join(message.msg for message in messages)
    for part in (
        "mine has a key that will not be read: SECRET_KEY is",
        "/etc/hostname is not below",
        "cloud has a key",
    ):
        assert part in said
    deployed.GATEWAY_KEY_NAMES = ["SECRET_KEY", "ROLE"]
    deployed.GATEWAY_KEY_DIR = "/etc"
    assert [message.msg for message in checks.keys_may_be_read(databases=["default"])] == [
        "The provider mine has a key that will not be read: SECRET_KEY is the gateway's own secret, which no provider "
        "may have."
    ]


@pytest.mark.django_db
def test_an_admin_that_nobody_may_sign_in_to_is_found(deployed: Settings) -> None:
    User.objects.create_superuser("olga", is_active=False)
    User.objects.create_user("reader", is_staff=True)
    assert found("default") == ["gateway.W010"]
    User.objects.create_superuser("olaf")
    assert found("default") == []


def test_a_warning_is_printed_in_a_line_and_lets_the_gateway_start(
    deployed: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed.GATEWAY_AUTH = "open"
    assert checks.passed() is True
    assert capsys.readouterr().err == (
        "Warning gateway.W001: GATEWAY_AUTH=open while serving on 0.0.0.0: everybody who reaches it can spend without "
        "a key. Set GATEWAY_AUTH=required and make keys with `manage.py create_key`.\n"
    )


@pytest.fixture
def _an_error() -> Iterator[None]:
    def wrong(**_: Any) -> list[django_checks.CheckMessage]:
        return [django_checks.Error("This cannot work.", id="gateway.E999")]

    django_checks.register(wrong, checks.TAG, deploy=True)
    yield
    registry.deployment_checks.remove(wrong)  # type: ignore[arg-type]  # `register` turned the function into a check


@pytest.mark.usefixtures("_an_error")
def test_an_error_stops_the_start(deployed: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.passed() is False
    assert capsys.readouterr().err == "Error gateway.E999: This cannot work.\n"


def test_every_check_is_documented_and_every_documented_check_is_there() -> None:
    in_code = re.findall(r'id="(gateway\.[EW][0-9]{3})"', (ROOT / "gateway_project/checks.py").read_text())
    in_docs = re.findall(r"^\| `(gateway\.[EW][0-9]{3})`", (ROOT / "docs/system-checks.md").read_text(), re.MULTILINE)
    assert len(in_code) == len(set(in_code)) >= 7
    assert sorted(in_code) == sorted(in_docs)


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "GATEWAY_ENV_FILE": os.devnull,
            "HOST": "0.0.0.0",
            "DATABASE_URL": "postgresql://u:p@localhost:1/gateway",
            "ALLOWED_HOSTS": "gateway.example",
            "SECRET_KEY": LONG_KEY,
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_check_deploy_shows_them_and_other_commands_are_silent() -> None:
    sound = manage("check", "--deploy", "--fail-level", "WARNING")
    assert sound.returncode == 0, sound.stderr
    odd = manage("check", "--deploy", "--fail-level", "WARNING", GATEWAY_AUTH="open")
    assert odd.returncode == 1
    assert "(gateway.W001) GATEWAY_AUTH=open while serving on 0.0.0.0" in odd.stderr
    assert "W001" not in manage("check", GATEWAY_AUTH="open").stderr
