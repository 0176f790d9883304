"""Which of a provider's keys a call takes, and what happens to a key that was refused or limited."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from pytest_django import Settings

from routing.catalog import Provider
from routing.secrets.references import UnknownStore, find
from routing.secrets.rotation import ProviderKey, another_is_well, choose, failed
from routing.upstreams.base import FailureKind, UpstreamError
from routing.upstreams.responses_dialect import mark_of

_names = itertools.count()  # each test has a new provider, about which nothing is remembered
REFUSED = UpstreamError(FailureKind.AUTHENTICATION, "no")


@pytest.fixture(autouse=True)
def folder_of_keys(tmp_path: Path, settings: Settings) -> None:
    settings.GATEWAY_KEY_DIR = str(tmp_path)


@pytest.fixture
def three(tmp_path: Path) -> Provider:
    """A provider whose keys are in the files 1, 2 and 3."""
    for name in "123":
        (tmp_path / name).write_text(f"secret {name}")
    return provider(*(f"file:{tmp_path / name}" for name in "123"))


def provider(*references: str) -> Provider:
    return Provider(f"p{next(_names)}", "openai", True, references, 1, 5, 0.5, 30)


def take(provider: Provider, times: int = 1) -> list[str]:
    """The secrets of the next calls."""
    return [taken.secret if (taken := choose(provider)) else "none" for _ in range(times)]


def key(provider: Provider, number: int) -> ProviderKey:
    reference = provider.key_references[number - 1]
    return ProviderKey(reference, f"secret {number}")


def limited(retry_after_s: float | None) -> UpstreamError:
    return UpstreamError(FailureKind.RATE_LIMITED, "slow down", retry_after_s=retry_after_s)


@pytest.mark.parametrize("kept", ["sk-a\r\n", '"sk-a"\n', "'sk-a'", "\ufeffsk-a", ' "sk-a" '])
def test_what_surrounds_a_key_is_no_part_of_it(kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(kept)
    monkeypatch.setenv("SURROUNDED_API_KEY", kept)
    assert find(f"file:{tmp_path / 'key'}") == "sk-a"
    assert find("env:SURROUNDED_API_KEY") == "sk-a"


@pytest.mark.parametrize("kept", ["", " \n", '""', "''"])
def test_nothing_in_quotes_is_no_key(kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(kept)
    monkeypatch.setenv("SURROUNDED_API_KEY", kept)
    assert find(f"file:{tmp_path / 'key'}") is None
    assert find("env:SURROUNDED_API_KEY") is None


def test_calls_take_turns(three: Provider) -> None:
    taken = take(three, 9)
    assert sorted(taken[:3]) == ["secret 1", "secret 2", "secret 3"]
    assert taken == taken[:3] * 3


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_one_account_keeps_is_asked_for_with_its_key(three: Provider, number: int) -> None:
    mark = mark_of(f"secret {number}")
    for _ in range(4):
        taken = choose(three, prefers=lambda secret: mark_of(secret) == mark)
        assert taken is not None
        assert taken.secret == f"secret {number}"
    assert choose(three, prefers=lambda secret: False) is not None  # that key is gone, so another has to do


def test_a_limited_key_rests_for_as_long_as_the_provider_asks(three: Provider) -> None:
    failed(three, key(three, 2), limited(0.2))
    assert set(take(three, 9)) == {"secret 1", "secret 3"}
    time.sleep(0.25)
    assert set(take(three, 9)) == {"secret 1", "secret 2", "secret 3"}


def test_a_limited_key_rests_although_nobody_says_for_how_long(three: Provider) -> None:
    failed(three, key(three, 2), limited(None))
    assert set(take(three, 9)) == {"secret 1", "secret 3"}


def test_of_keys_that_all_rest_the_one_that_is_well_first_is_taken(three: Provider) -> None:
    for number, rest_s in ((1, 30), (2, 10), (3, 20)):
        failed(three, key(three, number), limited(rest_s))
    assert set(take(three, 6)) == {"secret 2"}


def test_a_refused_key_is_out_until_its_secret_changes(three: Provider, tmp_path: Path) -> None:
    failed(three, key(three, 2), REFUSED)
    assert set(take(three, 9)) == {"secret 1", "secret 3"}
    (tmp_path / "2").write_text("secret 2, rotated")
    assert set(take(three, 9)) == {"secret 1", "secret 2, rotated", "secret 3"}


def test_a_resting_key_is_better_than_one_that_is_out(three: Provider) -> None:
    failed(three, key(three, 1), REFUSED)
    failed(three, key(three, 2), limited(300))
    failed(three, key(three, 3), REFUSED)
    assert set(take(three, 6)) == {"secret 2"}


def test_other_failures_say_nothing_of_the_key(three: Provider) -> None:
    for kind in set(FailureKind) - {FailureKind.RATE_LIMITED, FailureKind.AUTHENTICATION}:
        failed(three, key(three, 2), UpstreamError(kind, "no"))
    assert set(take(three, 9)) == {"secret 1", "secret 2", "secret 3"}


def test_a_key_is_left_for_this_request_while_one_is_untried_and_well(three: Provider) -> None:
    first, second, third = three.key_references
    assert another_is_well(three, {first, second})
    assert not another_is_well(three, {first, second, third})
    failed(three, key(three, 3), limited(300))
    assert not another_is_well(three, {first, second})


def test_a_single_key_is_taken_whatever_is_said_of_it(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("secret 1")
    alone = provider(f"file:{tmp_path / '1'}")
    failed(alone, key(alone, 1), REFUSED)
    assert take(alone, 2) == ["secret 1", "secret 1"]
    assert not another_is_well(alone, set())


def test_a_reference_that_leads_to_nothing_is_skipped(three: Provider, tmp_path: Path) -> None:
    (tmp_path / "1").unlink()
    (tmp_path / "3").write_text("\n")
    assert take(three, 3) == ["secret 2"] * 3
    (tmp_path / "2").unlink()
    assert choose(three) is None


@pytest.mark.parametrize(
    ("reference", "named"),
    [("gcp-secret:projects/1/key", "'gcp-secret:' is no store of keys"), ("sk-ant-pasted", "it names none")],
)
def test_a_reference_to_an_unknown_store_is_refused_and_not_read_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "projects" / "1").mkdir(parents=True)
    (tmp_path / "projects" / "1" / "key").write_text("secret")
    with pytest.raises(UnknownStore, match=named) as refusal:
        choose(provider(reference))
    assert "pasted" not in str(refusal.value)
    assert find(reference) is None


def test_an_unknown_store_costs_a_provider_only_that_key(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("secret 1")
    assert take(provider("gcp-secret:projects/1/key", f"file:{tmp_path / '1'}"), 2) == ["secret 1"] * 2
