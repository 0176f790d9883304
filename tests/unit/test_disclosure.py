"""Which of the server's variables and files a provider's configuration may name."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from routing.secrets import references
from routing.upstreams.base import FailureKind, UpstreamError
from routing.upstreams.deployment_parameters import resolved, values_of_variables
from routing.upstreams.disclosure import NotAllowed, allow_variable, allowed_file
from routing.upstreams.providers import PROVIDERS


@pytest.mark.parametrize(
    ("name", "is_allowed"),
    [
        ("OPENAI_API_KEY", True),
        ("OPENAI_API_KEY_2", True),
        ("MY_SERVER_API_KEY", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("GOOGLE_APPLICATION_CREDENTIALS", True),
        ("AZURE_AD_TOKEN", True),
        ("REPLICATE_API_TOKEN", True),
        ("openai_api_key", False),
        ("MY_KEY", False),
        ("HOME", False),
        ("PATH", False),
        ("STRIPE_SECRET_KEY", False),
        ("SECRET_KEY", False),
        ("DATABASE_URL", False),
        ("database_url", False),
        ("PGPASSWORD", False),
        ("DJANGO_SUPERUSER_PASSWORD", False),
        ("DJANGO_API_KEY", False),
        ("GATEWAY_API_KEY", False),
    ],
)
def test_a_variable_is_read_when_it_is_called_as_keys_are(name: str, is_allowed: bool) -> None:
    assert (references.refused(f"env:{name}") is None) is is_allowed


def test_an_operator_names_further_variables_but_never_the_gateways_own(settings: Settings) -> None:
    settings.GATEWAY_KEY_NAMES = ["MY_*", "*"]
    allow_variable("MY_KEY")
    allow_variable("HOME")
    for ours in ("SECRET_KEY", "DATABASE_URL", "DJANGO_SUPERUSER_PASSWORD", "GATEWAY_AUTH"):
        with pytest.raises(NotAllowed, match="the gateway's own"):
            allow_variable(ours)


def test_the_variable_of_every_provider_may_be_read() -> None:
    for provider in PROVIDERS.values():
        allow_variable(provider.key_variable)


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    folder = tmp_path / "keys"
    for name in ("here", "below/deeper/key", "kubernetes.io/serviceaccount/token", "secret_key", "database_url"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("a key")
    (tmp_path / "elsewhere").write_text("no key")
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "in").symlink_to(folder / "here")
    (folder / "round").symlink_to(folder / "round")
    (tmp_path / "way").symlink_to(folder)
    settings.GATEWAY_KEY_DIR = str(tmp_path / "way")
    return folder


@pytest.mark.parametrize("path", ["here", "in", "below/deeper/key", "below/../here", "../way/here", "not/there"])
def test_a_file_is_read_below_the_folder_of_keys(folder: Path, path: str) -> None:
    assert allowed_file(f"{folder}/{path}").is_relative_to(folder)
    assert references.find(f"file:{folder}/{path}") == (None if path == "not/there" else "a key")


NOT_READ = [
    "out", "round", "../elsewhere", "below/../../elsewhere", "kubernetes.io/serviceaccount/token", "secret_key",
    "database_url", "he\x00re", "here/../../../../../../etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("path", NOT_READ)
def test_a_file_elsewhere_or_of_the_gateways_own_is_not_read(folder: Path, path: str) -> None:
    reference = f"file:{folder}/{path}"
    assert references.find(reference) is None
    with pytest.raises(NotAllowed):
        references.read(reference)


@pytest.mark.parametrize(
    "value", ["os.environ/SECRET_KEY", "oidc/env/DATABASE_URL", "oidc/env_path/DJANGO_SETTINGS_MODULE"]
)
def test_a_deployments_parameter_reads_no_more_than_a_reference(value: str) -> None:
    with pytest.raises(UpstreamError, match=r"vertex_credentials may not be read: .* is the gateway's own") as refusal:
        resolved([("vertex_credentials", value)])
    assert refusal.value.kind is FailureKind.NO_KEY


def test_what_a_parameters_variable_holds_is_known_as_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_REGION_NAME", "eu-west-1")
    parameters = [("aws_secret_access_key", "os.environ/AWS_SECRET_ACCESS_KEY"), ("a", "os.environ/AWS_REGION_NAME")]
    assert values_of_variables(parameters) == ["wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"]
