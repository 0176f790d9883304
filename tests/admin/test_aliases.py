"""Aliases and chains in the admin: reordering through the real form, renames, deletions."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from accounting.keys import fields_for
from accounting.models import ApiKey, Budget, Price
from routing import catalog
from routing.models import Fallback, FurtherDeployment, ModelAlias
from tests.admin.conftest import Operator, alias, chain, provider, version

LIST = "routing/modelalias/"


def page_of(name: str) -> str:
    return f"{LIST}{alias(name).pk}/change/"


def new_step(fields: dict[str, Any], target: str, position: str = "", kind: str = "general") -> dict[str, Any]:
    """The fields with one more row, as the browser's “Add another” makes it."""
    row = int(fields["fallbacks-TOTAL_FORMS"])
    return fields | {
        "fallbacks-TOTAL_FORMS": row + 1,
        f"fallbacks-{row}-alias": fields["fallbacks-0-alias"] if row else "",
        f"fallbacks-{row}-position": position,
        f"fallbacks-{row}-kind": kind,
        f"fallbacks-{row}-target": alias(target).pk,
    }


@pytest.mark.django_db(transaction=True)
def test_two_steps_swap_their_positions(operator: Operator) -> None:
    assert chain("claude-sonnet") == ["gpt-4o", "gemini-pro"]
    fields = operator.form(page_of("claude-sonnet"))
    operator.post(page_of("claude-sonnet"), fields | {"fallbacks-0-position": 2, "fallbacks-1-position": 1})
    assert chain("claude-sonnet") == ["gemini-pro", "gpt-4o"]
    assert [step.alias for step in catalog.fresh().chain("claude-sonnet")] == ["claude-sonnet", "gemini-pro", "gpt-4o"]
    assert LogEntry.objects.get().user == operator.user


@pytest.mark.django_db(transaction=True)
def test_two_steps_swap_their_targets(operator: Operator) -> None:
    fields = operator.form(page_of("claude-sonnet"))
    first, second = fields["fallbacks-0-target"], fields["fallbacks-1-target"]
    operator.post(page_of("claude-sonnet"), fields | {"fallbacks-0-target": second, "fallbacks-1-target": first})
    assert chain("claude-sonnet") == ["gemini-pro", "gpt-4o"]


@pytest.mark.django_db(transaction=True)
def test_a_step_without_a_position_goes_to_the_end(operator: Operator) -> None:
    fields = operator.form(page_of("claude-sonnet"))
    operator.post(page_of("claude-sonnet"), new_step(fields, "gemini-flash"))
    assert chain("claude-sonnet") == ["gpt-4o", "gemini-pro", "gemini-flash"]


@pytest.mark.django_db(transaction=True)
def test_a_step_is_removed_and_another_takes_its_position_at_once(operator: Operator) -> None:
    fields = operator.form(page_of("claude-sonnet")) | {"fallbacks-0-DELETE": "on"}
    operator.post(page_of("claude-sonnet"), new_step(fields, "gemini-flash", position="1"))
    assert chain("claude-sonnet") == ["gemini-flash", "gemini-pro"]


def test_an_alias_gets_its_first_step_and_further_deployments(operator: Operator) -> None:
    fields = new_step(operator.form(page_of("gemini-flash")), "gpt-4o")
    fields |= {
        "deployments-TOTAL_FORMS": 2,
        "deployments-0-position": "", "deployments-0-provider": provider("openai").pk,
        "deployments-0-upstream_model": "gpt-4o-mini",
        "deployments-1-position": "", "deployments-1-provider": provider("openai").pk,
        "deployments-1-upstream_model": "gpt-4.1-nano",
    }  # fmt: skip
    operator.post(page_of("gemini-flash"), fields)
    assert chain("gemini-flash") == ["gpt-4o"]
    assert list(alias("gemini-flash").deployments.values_list("position", "upstream_model")) == [
        (1, "gpt-4o-mini"),
        (2, "gpt-4.1-nano"),
    ]


@pytest.mark.django_db(transaction=True)
def test_weights_are_given_and_taken_back_in_the_alias_s_page(operator: Operator) -> None:
    fields = operator.form(page_of("gemini-flash")) | {
        "weight": 1,
        "deployments-TOTAL_FORMS": 1,
        "deployments-0-position": "", "deployments-0-provider": provider("openai").pk,
        "deployments-0-upstream_model": "gpt-4o-mini", "deployments-0-weight": 3,
    }  # fmt: skip
    operator.post(page_of("gemini-flash"), fields)

    def weights() -> list[int | None]:
        return [step.weight for step in catalog.fresh().aliases["gemini-flash"].own]

    assert weights() == [1, 3]
    page = operator.get(page_of("gemini-flash"))
    assert "Its share of the requests among the weighted deployments" in page
    assert "With weights (here and above) requests are shared out" in page
    operator.post(page_of("gemini-flash"), operator.form(page_of("gemini-flash")) | {"weight": ""})
    assert weights() == [None, 3]


@pytest.mark.parametrize("weight", ["0", "-1", "1.5", "1000001", "much"])
def test_a_weight_is_a_whole_number_from_1(operator: Operator, weight: str) -> None:
    before = version()
    page = operator.post(page_of("gemini-flash"), operator.form(page_of("gemini-flash")), weight=weight)
    assert "Please correct" in page
    assert alias("gemini-flash").weight is None
    assert version() == before


def test_the_same_target_may_stand_in_chains_of_different_kinds(operator: Operator) -> None:
    fields = operator.form(page_of("claude-sonnet"))
    operator.post(page_of("claude-sonnet"), new_step(fields, "gpt-4o", kind="context_window"))
    assert Fallback.objects.filter(alias=alias("claude-sonnet"), target=alias("gpt-4o")).count() == 2
    page = operator.get(LIST)
    assert "gpt-4o → gemini-pro; prompt too long: gpt-4o" in page


def test_two_steps_of_one_position_are_refused(operator: Operator) -> None:
    before = version()
    fields = operator.form(page_of("claude-sonnet"))
    page = operator.post(page_of("claude-sonnet"), fields | {"fallbacks-1-position": 1})
    assert "Two rows have the same kind and position" in page
    assert chain("claude-sonnet") == ["gpt-4o", "gemini-pro"]
    assert version() == before


def test_the_same_target_twice_in_a_chain_is_refused(operator: Operator) -> None:
    before = version()
    fields = operator.form(page_of("claude-sonnet"))
    page = operator.post(page_of("claude-sonnet"), fields | {"fallbacks-1-target": fields["fallbacks-0-target"]})
    assert "Two rows have the same kind and target" in page
    assert version() == before


def test_an_alias_does_not_fall_back_to_itself(operator: Operator) -> None:
    before = version()
    fields = operator.form(page_of("claude-sonnet"))
    page = operator.post(page_of("claude-sonnet"), fields | {"fallbacks-0-target": alias("claude-sonnet").pk})
    assert "An alias cannot fall back to itself." in page
    assert version() == before


@pytest.mark.django_db(transaction=True)
def test_a_step_that_somebody_else_added_in_the_meantime_is_not_overwritten(operator: Operator) -> None:
    fields = new_step(operator.form(page_of("gpt-4o")), "claude-sonnet", position="2")
    Fallback.objects.create(alias=alias("gpt-4o"), position=2, target=alias("gemini-flash"))
    before = version()
    page = operator.post(page_of("gpt-4o"), fields, output_cap_tokens="1")
    assert "so <strong>nothing was saved</strong>" in page
    assert "kind when it fails, position 2, target gemini-flash" in page  # theirs
    assert "kind when it fails, position 2, target claude-sonnet" in page  # yours
    assert chain("gpt-4o") == ["gemini-pro", "gemini-flash"]
    assert alias("gpt-4o").output_cap_tokens is None
    assert version() == before
    assert not LogEntry.objects.exists()


def test_two_aliases_may_fall_back_to_each_other(operator: Operator) -> None:
    operator.post(page_of("gemini-flash"), new_step(operator.form(page_of("gemini-flash")), "gemini-pro"))
    assert (chain("gemini-pro"), chain("gemini-flash")) == (["gemini-flash"], ["gemini-pro"])


def test_a_name_may_have_spaces_and_any_letters_but_nothing_that_is_not_seen(operator: Operator) -> None:
    operator.post(page_of("gpt-4o"), operator.form(page_of("gpt-4o")), name="GPT 4o für alle")
    before = version()
    page = operator.post(page_of("GPT 4o für alle"), operator.form(page_of("GPT 4o für alle")), name="gpt\u200b4o")
    assert "Use printable characters only" in page
    assert version() == before


def test_a_wildcard_must_say_what_the_star_of_its_model_is_and_is_no_step_of_a_chain(operator: Operator) -> None:
    before = version()
    page = operator.post(page_of("gpt-4o"), operator.form(page_of("gpt-4o")), upstream_model="gpt-*")
    assert "The alias does not say what its * stands for." in page
    assert version() == before
    operator.post(page_of("gpt-4o"), operator.form(page_of("gpt-4o")), name="openai/*", upstream_model="*")
    assert "each model&#x27;s" in operator.get(LIST)
    before = version()
    page = operator.post(page_of("gemini-flash"), new_step(operator.form(page_of("gemini-flash")), "openai/*"))
    assert "A wildcard is no model" in page
    assert version() == before


def test_the_list_switches_and_reorders_aliases(operator: Operator) -> None:
    rows = list(ModelAlias.objects.all())
    fields: dict[str, Any] = operator.list_form(LIST)
    for number, row in enumerate(rows):
        fields |= {f"form-{number}-id": row.pk, f"form-{number}-position": 4 - number}
        if row.name != "gpt-4o":
            fields[f"form-{number}-enabled"] = "on"
    operator.post(LIST, fields)
    assert list(ModelAlias.objects.values_list("name", "enabled")) == [
        ("gemini-flash", True), ("gemini-pro", True), ("gpt-4o", False), ("claude-sonnet", True),
    ]  # fmt: skip
    assert catalog.fresh().enabled_aliases == ("gemini-flash", "gemini-pro", "claude-sonnet")


def test_the_list_shows_chains_prices_and_what_is_unpriced(operator: Operator) -> None:
    Price.objects.filter(model="gemini-2.5-pro").delete()
    page = operator.get(LIST)
    assert "gpt-4o → gemini-pro" in page
    assert "2.5 / 10" in page or "$2.5 / $10" in page
    assert page.count("unpriced") == 1


def test_saving_an_alias_without_a_price_warns_and_links_to_the_price_form(operator: Operator) -> None:
    page = operator.post(page_of("gpt-4o"), operator.form(page_of("gpt-4o")), upstream_model="gpt-5")
    assert "gpt-5 at openai has no price, so hard budgets refuse it." in page
    assert "/admin/accounting/price/add/?provider=openai&amp;model=gpt-5" in page
    assert alias("gpt-4o").upstream_model == "gpt-5"


def test_keys_and_budgets_follow_a_rename(operator: Operator) -> None:
    bot = ApiKey.objects.create(name="bot", allowed_aliases=["gpt-4o", "gemini-pro"], **fields_for("sk-gw-1"))
    free = ApiKey.objects.create(name="free", **fields_for("sk-gw-2"))
    budget = Budget.objects.create(name="of gpt", scope="alias", scope_value="gpt-4o", limit_usd=5)
    page = operator.post(page_of("gpt-4o"), operator.form(page_of("gpt-4o")), name="gpt")
    assert "Renamed “gpt-4o” to “gpt”: 1 API key(s) and 1 budget(s) follow." in page
    bot.refresh_from_db()
    free.refresh_from_db()
    budget.refresh_from_db()
    assert (bot.allowed_aliases, free.allowed_aliases, budget.scope_value) == (["gpt", "gemini-pro"], [], "gpt")
    assert chain("claude-sonnet") == ["gpt", "gemini-pro"]


def test_a_rename_that_is_refused_takes_nothing_along(operator: Operator) -> None:
    bot = ApiKey.objects.create(name="bot", allowed_aliases=["gpt-4o"], **fields_for("sk-gw-1"))
    before = version()
    page = operator.post(page_of("gpt-4o"), operator.form(page_of("gpt-4o")), name="gemini-pro")
    assert "Alias with this Name already exists." in page
    bot.refresh_from_db()
    assert bot.allowed_aliases == ["gpt-4o"]
    assert version() == before


def test_an_alias_that_others_fall_back_to_is_not_deleted_and_the_page_names_them(operator: Operator) -> None:
    before = version()
    page = operator.post(f"{LIST}{alias('gemini-pro').pk}/delete/", {"post": "yes"})
    assert "gemini-pro cannot be deleted:" in page
    assert "The alias “claude-sonnet” falls back to “gemini-pro”." in page
    assert "The alias “gpt-4o” falls back to “gemini-pro”." in page
    assert ModelAlias.objects.count() == 4
    assert version() == before


def test_an_alias_is_deleted_with_its_own_chain_and_deployments(operator: Operator) -> None:
    FurtherDeployment.objects.create(alias=alias("claude-sonnet"), provider=provider("openai"), upstream_model="gpt-4o")
    operator.post(f"{LIST}{alias('claude-sonnet').pk}/delete/", {"post": "yes"})
    assert list(ModelAlias.objects.values_list("name", flat=True)) == ["gpt-4o", "gemini-pro", "gemini-flash"]
    assert (Fallback.objects.count(), FurtherDeployment.objects.count()) == (2, 0)


def test_the_page_shows_how_long_the_first_token_of_each_deployment_is_waited_for(operator: Operator) -> None:
    FurtherDeployment.objects.create(alias=alias("gemini-pro"), provider=provider("openai"), upstream_model="gpt-4o")
    page = operator.get(page_of("gemini-pro"))
    assert "google · gemini-2.5-pro: 120 s, as it thinks in silence; openai · gpt-4o: 12 s" in page
    assert "12 s, or 120 s when it is asked to think" in operator.get(page_of("claude-sonnet"))
    operator.post(page_of("gemini-pro"), operator.form(page_of("gemini-pro")), first_token_timeout_s="45")
    assert "gemini-2.5-pro: 45 s; openai · gpt-4o: 45 s" in operator.get(page_of("gemini-pro"))
    steps = catalog.fresh().aliases["gemini-pro"].own
    assert [step.deployment.timeouts.for_a_thinker().first_token_s for step in steps] == [45, 45]
    assert [step.deployment.timeouts.first_token_s for step in steps] == [45, 45]
