"""The first page in prepared situations: it names what is wrong, fits a telephone, and is never green by mistake.

``SCREENSHOTS=DIR`` keeps a picture of each situation, wide and narrow, light and dark, for somebody to look at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import openai
import psycopg
import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import Browser, Page, expect

from accounting import sql
from accounting.ledger.corrections import resolve
from accounting.models import Budget, BudgetPeriod, LedgerEntry, RefusedRequest
from routing.models import Breaker, ModelAlias, Provider
from tests.clocks import eventually
from tests.e2e.gateway import Gateway, Route, asks
from tests.simulator import faults

SIZES = {"wide": (1440, 1000), "phone": (390, 844)}


@pytest.fixture
def well(gateway: Gateway) -> Iterator[Gateway]:
    """A gateway whose providers all have a key, without anything that another test left behind."""
    gateway.sim.reset()
    gateway.remove_routes()
    with gateway.orm():
        Provider.objects.filter(name="google").update(key_reference="env:OPENAI_API_KEY")
        Budget.objects.exclude(name="global").update(enabled=False)
        Breaker.objects.all().delete()
        RefusedRequest.objects.all().delete()
    yield gateway
    gateway.sim.reset()
    gateway.remove_routes()
    with gateway.orm():
        Provider.objects.filter(name="google").update(key_reference="env:GEMINI_API_KEY")
        Budget.objects.exclude(name="global").update(enabled=False)
        Breaker.objects.all().delete()
        User.objects.exclude(username="admin").delete()


def look(page: Page, name: str, path: str = "/admin/") -> None:
    """Open the page on a telephone, which it is never wider than; for pictures in each size and colour."""
    folder = os.environ.get("SCREENSHOTS")
    for scheme in ("dark", "light") if folder else ("light",):
        page.emulate_media(color_scheme=scheme)
        for size in ("phone", "wide") if folder else ("phone",):
            width, height = SIZES[size]
            page.set_viewport_size({"width": width, "height": height})
            page.goto(path)
            expect(page.locator("#content-main")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if folder:
                page.screenshot(path=Path(folder) / f"{name}-{size}-{scheme}.png", full_page=True)


def ask(gateway: Gateway, route: Route, times: int = 1) -> None:
    for _ in range(times):
        gateway.client().chat.completions.create(model=route.alias, **asks())
    gateway.wait_settled(route.alias, times)


def says(page: Page, words: str) -> None:
    expect(page.locator("#problems")).to_contain_text(words)
    expect(page.locator("#verdict")).not_to_contain_text("Nothing needs you")


def sign_in(browser: Browser, gateway: Gateway, *rights: str) -> Page:
    """Somebody with these rights alone."""
    with gateway.orm():
        user = User.objects.create_user("rita", password="correct horse 9", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    page = browser.new_context(base_url=gateway.url, color_scheme="light").new_page()
    page.goto("/admin/")
    page.get_by_label("Username").fill("rita")
    page.get_by_label("Password").fill("correct horse 9")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("/admin/")
    return page


def test_a_fresh_start_says_what_to_set_and_how_to_ask(page: Page, well: Gateway) -> None:
    with well.orm():
        before = dict(Provider.objects.values_list("name", "key_reference"))
        for name in before:
            Provider.objects.filter(name=name).update(key_reference=f"env:{name.upper()}_NOT_SET")
    try:
        look(page, "01-fresh")
        says(page, "Set OPENAI_NOT_SET where the gateway runs, and start it again.")
        says(page, "Nobody can answer claude-sonnet, gpt-4o, gemini-pro and gemini-flash")
        page.get_by_role("link", name=re.compile("The provider openai has no key")).click()
        expect(page.get_by_label("Key reference")).to_have_value("env:OPENAI_NOT_SET")
    finally:
        with well.orm():
            for name, reference in before.items():
                Provider.objects.filter(name=name).update(key_reference=reference)


def test_a_healthy_gateway_is_green_and_says_what_it_looked_at(page: Page, well: Gateway) -> None:
    route = well.route("openai", "anthropic")
    ask(well, route, 6)
    look(page, "02-healthy")
    expect(page.locator("#verdict")).to_contain_text("Nothing needs you")
    expect(page.locator("#passed")).to_contain_text("every breaker is closed")
    expect(page.locator("#verdict")).to_contain_text("books compared")


def test_a_budget_that_is_nearly_spent_is_named(page: Page, well: Gateway) -> None:
    route, name = budgeted(well, part="0.9")
    look(page, "03-budget-at-90")
    says(page, f"The budget {name} is nearly spent: $")
    page.locator("#problems").get_by_role("link").first.click()
    expect(page.locator("#spenders")).to_contain_text("anonymous")
    look(page, "03-budget-page", page.url)
    expect(page.locator("#spenders")).to_contain_text(route.alias)


def test_a_spent_budget_is_named_with_its_reset(page: Page, well: Gateway) -> None:
    route, name = budgeted(well, part="1")
    with pytest.raises(openai.RateLimitError):
        well.client().chat.completions.create(model=route.alias, **asks())
    look(page, "04-budget-spent")
    says(page, f"The budget {name} is spent: $")
    says(page, "It refuses requests until ")


def budgeted(gateway: Gateway, part: str) -> tuple[Route, str]:
    """A budget of which requests have spent this part, and the route that did."""
    route = gateway.route("openai")
    name = gateway.budget(route, "5")
    ask(gateway, route, 3)
    with gateway.orm():
        spent = BudgetPeriod.objects.get(budget__name=name).posted_usd
        assert spent > 0
        Budget.objects.filter(name=name).update(limit_usd=round(spent / Decimal(part), 12))
    return route, name


def test_an_open_breaker_is_named_with_the_aliases_that_it_hurts(page: Page, well: Gateway) -> None:
    route = well.route("openai", "anthropic", breaker_failures=1, breaker_cooldown_s=600, retries=0)
    well.sim.behave(route.providers[0], forever=faults.unavailable())
    ask(well, route)
    assert eventually(lambda: well.rows("SELECT 1 FROM routing_breakerstate WHERE state = 'open'"))
    look(page, "05-open-breaker")
    says(page, f"The breaker of {route.providers[0]} gpt-4o is open, since ")
    says(page, f"Requests for {route.alias} skip it until ")
    page.locator("#problems").get_by_role("link", name=re.compile("The breaker of")).click()
    expect(page.locator("#content-main")).to_contain_text(route.providers[0])


def test_a_refused_provider_key_is_named_until_it_works_again(page: Page, well: Gateway) -> None:
    route = well.route("openai", "anthropic", retries=0, breaker_failures=1000)
    well.sim.behave(route.providers[0], forever=faults.invalid_key())
    ask(well, route)
    look(page, "06-refused-key")
    says(page, f"{route.providers[0]} refused the key env:OPENAI_API_KEY at ")
    well.sim.reset()
    ask(well, route)
    assert eventually(lambda: len(well.attempts(route.alias)) == 3)
    page.goto("/admin/")
    expect(page.locator("#verdict")).not_to_contain_text("refused the key")


def test_unpriced_aliases_are_named_three_and_a_number(page: Page, well: Gateway) -> None:
    with well.orm():
        provider = Provider.objects.get(name="openai")
        for number in range(9):
            ModelAlias.objects.create(
                name=f"preview-{number}", provider=provider, upstream_model=f"preview-{number}", position=1000
            )
    look(page, "07-unpriced")
    says(page, "The alias preview-0 is unpriced: nobody has said what preview-0 costs at openai.")
    says(page, "And 6 more of these.")
    page.get_by_role("link", name=re.compile("preview-0 is unpriced")).click()
    expect(page.get_by_label("Model")).to_have_value("preview-0")


def test_a_storm_of_refusals_is_one_line(page: Page, well: Gateway) -> None:
    route = well.route("openai")
    well.budget(route, "0")
    for _ in range(30):
        with pytest.raises(openai.RateLimitError):
            well.client().chat.completions.create(model=route.alias, **asks())
    counted = "SELECT 1 FROM refusals WHERE alias = %s HAVING sum(count) = 30"
    assert eventually(lambda: well.rows(counted, route.alias))
    look(page, "11-refusals")
    says(page, " of the last hour were refused: budget_exceeded ")
    page.get_by_role("link", name=re.compile("of the last hour were refused")).click()
    expect(page.locator("#result_list tbody tr").first).to_contain_text(route.alias)


def test_unknown_entries_are_named_and_lead_to_their_list(page: Page, well: Gateway) -> None:
    route = well.route("openai")
    ask(well, route, 2)
    # The worker that held this money is gone: nobody has its lock, so the living workers expire it.
    now = datetime.now(UTC)
    with well.orm():
        for number in range(3):
            LedgerEntry.objects.create(
                id=uuid4(),
                created_at=now,
                expires_at=now + timedelta(minutes=10),
                writer_id=2_000_000_000,
                request_id=f"lost-{number}",
                key="bot",
                alias=route.alias,
                provider="openai",
                model="gpt-4o",
                hold_usd=Decimal("0.01"),
            )
    assert eventually(lambda: len(unknown(well)) == 3)
    try:
        look(page, "08-unknown")
        says(page, "3 ledger entries are unknown, charged at their holds ($0.03)")
        page.get_by_role("link", name=re.compile("3 ledger entries are unknown")).click()
        expect(page.locator("#result_list tbody tr")).to_have_count(3)
    finally:
        with well.orm():
            for entry_id in unknown(well):
                resolve(entry_id, cost_usd=Decimal(0), author="admin", reason="a test")


def unknown(gateway: Gateway) -> list[UUID]:
    return [row["id"] for row in gateway.rows("SELECT id FROM accounting_ledgerentry WHERE state = 'unknown'")]


def test_who_may_see_a_part_reads_what_was_not_shown_and_no_green(browser: Browser, well: Gateway) -> None:
    page = sign_in(browser, well, "view_budget", "view_ledgerentry")
    look(page, "09-finance")
    expect(page.locator("#verdict")).to_contain_text("Of what you may see, all is in order")
    expect(page.locator("#hidden")).to_contain_text("missing provider keys")
    expect(page.locator("#verdict")).not_to_contain_text("Nothing needs you")
    page.context.close()


def test_a_ledger_that_waits_for_a_lock_is_the_first_thing_to_see(page: Page, well: Gateway) -> None:
    with psycopg.connect(well._dsn) as somebody:
        somebody.execute(sql.load("lock_ledger"))
        page.goto("/admin/")
        says(page, "The ledger cannot be written: somebody has locked it")
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / "10-stuck-wide-light.png", full_page=True)
    page.goto("/admin/")
    expect(page.locator("#verdict")).to_contain_text("Nothing needs you")
