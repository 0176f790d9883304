"""Whole files in the shapes that people's files have. What becomes of each is said in its first lines."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from accounting.models import Budget, Price
from routing import defaults
from routing.litellm_config import applying, reading
from routing.models import Fallback, ModelAlias, Provider
from tests.commands.test_load_config import snapshot
from tests.prices import rate

CONFIGS = Path(__file__).parent / "configs"
ENVIRONMENT = {
    "ANTHROPIC_API_KEY": "sk-a",
    "OPENAI_API_KEY": "sk-o",
    "AZURE_API_KEY": "az",
    "AZURE_API_BASE": "https://my.openai.azure.com",
    "LARGE_NAME": "large",
    "LARGE_MODEL": "anthropic/claude-sonnet-4-6",
    "SECONDS": "45",
    "CAP": "777",
    "RETRIES": "4",
    "SPARES": '["small"]',
    "LITELLM_MASTER_KEY": "sk-master-1234",
}


@pytest.fixture(autouse=True)
def _first_start(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults.ensure()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def read(name: str) -> reading.Config:
    path = CONFIGS / f"{name}.yaml"
    return reading.read(path.read_text(encoding="utf-8"), ENVIRONMENT, path)


def said(text: str, what: str) -> list[str]:
    """The lines ``# what: …`` at the top of a file."""
    return [line.strip() for line in re.findall(rf"^# {what}:(.*)$", text, re.MULTILINE)]


def names(text: str, what: str) -> list[str]:
    return [name.strip() for line in said(text, what) for name in line.split(",") if name.strip()]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_becomes_what_its_first_lines_say(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    before = set(ModelAlias.objects.values_list("name", flat=True))
    config = reading.read(text, ENVIRONMENT, path)
    report = applying.apply(config)
    made = {model.alias for model in config.models}
    assert made == set(names(text, "becomes"))
    assert set(ModelAlias.objects.values_list("name", flat=True)) == before | made
    for wanted, remarks in (("left out", [*config.left_out, *report.left_out]), ("unsupported", config.unsupported)):
        for name in names(text, wanted):
            found = [remark for remark in remarks if name == remark.name or remark.place.startswith(name)]
            assert found, f"{name} is not named: {remarks}"
            assert all(remark.line.startswith("line ") for remark in found)
    for name in names(text, "left out"):
        assert name in before | made or not ModelAlias.objects.filter(name=name).exists()
    chains: dict[str, list[str]] = {}
    for step in Fallback.objects.filter(alias__name__in=made).order_by("alias", "kind", "position"):
        chains.setdefault(step.alias.name, []).append(step.target.name)
    for chain in said(text, "chain"):
        alias, _, targets = chain.partition(" -> ")
        assert chains[alias] == targets.split(", ")
    for budget in said(text, "budget"):
        row = Budget.objects.get(name=budget.rsplit(" ", 2)[0])
        assert f"{row.name} {row.limit_usd:.0f} {row.period}" == budget
    assert set(names(text, "unpriced")) <= set(report.unpriced)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_second_load_and_the_way_back_change_nothing(path: Path, tmp_path: Path) -> None:
    config = reading.read(path.read_text(encoding="utf-8"), ENVIRONMENT, path)
    applying.apply(config)
    before = snapshot()
    again = applying.apply(config)
    assert (again.created, again.changed) == ([], [])
    exported = StringIO()
    call_command("export_config", stdout=exported)
    back = applying.apply(reading.read(exported.getvalue(), ENVIRONMENT, tmp_path / "config.yaml"))
    assert (back.created, back.changed, back.left_out) == ([], [], [])
    assert snapshot() == before


def test_a_strict_load_of_a_file_with_one_wrong_entry_changes_nothing() -> None:
    before = snapshot()
    with pytest.raises(applying.Refused) as refused:
        applying.apply(read("a-custom-handler"), strict=True)
    assert [remark.name for remark in refused.value.left_out] == ["film"]
    assert snapshot() == before


def test_a_clouds_place_goes_with_its_entry_and_its_secrets_stay_references() -> None:
    applying.apply(read("shared-credentials"))
    claude = ModelAlias.objects.get(name="claude").provider
    assert claude.parameters == {
        "aws_access_key_id": "os.environ/AWS_ACCESS_KEY_ID",
        "aws_secret_access_key": "os.environ/AWS_SECRET_ACCESS_KEY",
        "aws_region_name": "us-west-2",
    }
    gpt = ModelAlias.objects.get(name="gpt").provider
    assert (gpt.base_url, gpt.key_reference) == ("https://my.openai.azure.com", "env:AZURE_API_KEY")


def test_numbers_and_lists_from_the_environment_are_taken() -> None:
    applying.apply(read("names-from-the-environment"))
    large = ModelAlias.objects.get(name="large")
    assert (large.upstream_model, large.provider.total_timeout_s, large.provider.retries) == (
        "claude-sonnet-4-6",
        45,
        4,
    )
    assert ModelAlias.objects.get(name="small").output_cap_tokens == 777


def test_the_files_own_variables_are_read_and_named_because_they_are_not_stored() -> None:
    config = read("the-files-own-environment")
    applying.apply(config)
    assert ModelAlias.objects.get(name="own").provider.base_url == "http://own:1/v1"
    assert ModelAlias.objects.get(name="azure").provider.base_url == "https://mine.openai.azure.com"
    named = [note.place for note in config.notes if "not stored" in note.why]
    assert named == [f"environment_variables.{name}" for name in ("OWN_BASE", "TIER", "AZURE_API_BASE")]


def test_weights_hold_among_those_of_one_order() -> None:
    applying.apply(read("spares-by-order"))
    chat = ModelAlias.objects.get(name="chat")
    assert (chat.upstream_model, chat.weight) == ("claude-sonnet-4-6", 3)
    assert list(chat.deployments.values_list("upstream_model", "weight")) == [("gemini-2.5-pro", 1)]
    assert ModelAlias.objects.get(name="chat (order 2)").upstream_model == "gpt-4o"


def test_a_route_and_a_region_do_not_hide_the_price() -> None:
    report = applying.apply(read("routes-and-regions"))
    assert report.unpriced == []
    assert ModelAlias.objects.get(name="a").upstream_model == "gpt-5"
    assert ModelAlias.objects.get(name="d").upstream_model == "responses/gpt-5"
    for model in (
        "converse/us.anthropic.claude-3-5-sonnet-20240620-v1:0",
        "us-west-2/anthropic.claude-3-5-sonnet-20240620-v1:0",
        "invoke/anthropic.claude-3-5-sonnet-20240620-v1:0",
    ):
        prices = {rate(price) for price in Price.objects.filter(model=model)}
        assert prices == {3}


def test_an_entry_is_never_made_without_its_address() -> None:
    applying.apply(read("the-files-own-environment"))
    assert not ModelAlias.objects.filter(name="nowhere").exists()
    assert not Provider.objects.filter(litellm_provider="openai", base_url="").exclude(name="openai").exists()
