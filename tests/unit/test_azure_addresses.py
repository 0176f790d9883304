"""Where Azure's deployments are asked for what is relayed to them."""

from __future__ import annotations

import pytest

from routing.upstreams import azure
from routing.upstreams.base import Deployment, FailureKind, Timeouts, UpstreamError, UpstreamRequest


def request(
    base_url: str | None, *, provider: str = "azure", version: str | None = None, key: str = "k"
) -> UpstreamRequest:
    deployment = Deployment(provider, provider, "my whisper", base_url, Timeouts(), version)
    return UpstreamRequest(deployment, key, {}, Timeouts())


@pytest.mark.parametrize(
    ("base_url", "version", "url"),
    [
        ("https://x.openai.azure.com", "2024-10-21",
         "https://x.openai.azure.com/openai/deployments/my%20whisper/audio/speech?api-version=2024-10-21"),
        ("https://x.openai.azure.com/openai/", "v",
         "https://x.openai.azure.com/openai/deployments/my%20whisper/audio/speech?api-version=v"),
        ("https://x.openai.azure.com/openai/v1/", None, "https://x.openai.azure.com/openai/v1/audio/speech"),
    ],
)  # fmt: skip
def test_a_deployment_has_its_own_path(base_url: str, version: str | None, url: str) -> None:
    found, headers = azure.address(request(base_url, version=version), "audio/speech")
    assert (found, headers["api-key"]) == (url, "k")


def test_a_deployment_without_a_version_is_asked_in_one_that_knows_speech() -> None:
    found, _ = azure.address(request("https://x.openai.azure.com"), "audio/speech")
    assert found.endswith("?api-version=2025-04-01-preview")


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (request(None), FailureKind.NOT_FOUND),
        (request("https://x.openai.azure.com", key=""), FailureKind.NO_KEY),
        (request("https://x", provider="bedrock"), FailureKind.CAPABILITY),
    ],
)
def test_others_are_passed_over(asked: UpstreamRequest, kind: FailureKind) -> None:
    with pytest.raises(UpstreamError) as refused:
        azure.address(asked, "audio/speech")
    assert refused.value.kind is kind
