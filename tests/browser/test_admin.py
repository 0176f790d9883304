"""What operators click in the admin, in a browser, and how the next requests on every worker follow it."""

from __future__ import annotations

import re

import httpx
import openai
import pytest
from playwright.sync_api import Page, expect

from tests.clocks import eventually
from tests.e2e.gateway import Gateway, Route, asks
from tests.simulator import faults


def client(gateway: Gateway, api_key: str = "dummy") -> openai.OpenAI:
    """A client with a new connection for each request, so that any worker may answer."""
    connections = httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0))
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=api_key, max_retries=0, http_client=connections)


def requests_on_both_workers(gateway: Gateway, alias: str, since: int = 0) -> list[dict[str, object]]:
    """Entries of an alias, made until both workers have answered one."""

    def both_answered() -> bool:
        caller.chat.completions.create(model=alias, **asks())
        return len({entry["writer_id"] for entry in answered()}) == 2

    def answered() -> list[dict[str, object]]:
        return gateway.rows(
            "SELECT writer_id, served_alias, provider, fallback FROM accounting_ledgerentry WHERE alias = %s"
            " ORDER BY created_at OFFSET %s",
            alias,
            since,
        )

    with client(gateway) as caller:
        assert eventually(both_answered, within_s=20), answered()
    return answered()


@pytest.fixture
def route(gateway: Gateway) -> Route:
    """An alias whose own provider is down for good, with two fallbacks."""
    gateway.sim.reset()
    route = gateway.route("openai", "anthropic", "openai", retries=0)
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    return route


def test_a_chain_reordered_in_the_browser_is_followed_by_the_next_request_on_every_worker(
    page: Page, gateway: Gateway, route: Route
) -> None:
    alias, first, second = route.aliases
    before = requests_on_both_workers(gateway, alias)
    assert {entry["served_alias"] for entry in before} == {first}

    page.get_by_role("link", name="Aliases").click()
    page.get_by_role("link", name=alias, exact=True).click()
    page.locator("#id_fallbacks-0-position").fill("2")
    page.locator("#id_fallbacks-1-position").fill("1")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text=alias).first).to_contain_text(f"{second} → {first}")

    after = requests_on_both_workers(gateway, alias, since=len(before))
    assert {entry["served_alias"] for entry in after} == {second}  # also by the very first request


def test_a_chain_is_reordered_by_dragging(page: Page, gateway: Gateway, route: Route) -> None:
    alias, first, second = route.aliases
    page.goto("/admin/routing/modelalias/")
    page.get_by_role("link", name=alias, exact=True).click()
    handles = page.locator("#fallbacks-data .form-group.original .cursor-move")
    page.locator("#fallbacks-data").scroll_into_view_if_needed()
    start, end = handles.nth(1).bounding_box(), handles.nth(0).bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=15)
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] - 10, steps=15)
    page.mouse.up()
    expect(page.locator("#id_fallbacks-1-position")).to_have_value("0")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    with client(gateway) as caller:
        caller.chat.completions.create(model=alias, **asks())
    assert gateway.entry(alias)["served_alias"] == second != first


def test_a_key_made_in_the_browser_works_until_it_is_disabled(page: Page, gateway: Gateway) -> None:
    route = gateway.route("openai")
    page.goto("/admin/accounting/apikey/add/")
    page.get_by_role("textbox", name="Name").first.fill("telegram-bot")
    page.get_by_label(route.alias, exact=True).check()
    page.get_by_role("button", name="Save", exact=True).click()
    secret = page.locator("#secret").inner_text()
    assert re.fullmatch(r"sk-gw-[\w-]{43}", secret)

    with client(gateway, secret) as caller:
        caller.chat.completions.create(model=route.alias, **asks())
        assert gateway.entry(route.alias)["key"] == "telegram-bot"
        with pytest.raises(openai.PermissionDeniedError):
            caller.chat.completions.create(model="gpt-4o", **asks())

        page.get_by_role("link", name="I have copied it").click()
        assert secret not in page.content()
        page.get_by_role("link", name="telegram-bot").click()
        page.get_by_label("Enabled").uncheck()
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("was changed successfully")).to_be_visible()
        with pytest.raises(openai.AuthenticationError):
            caller.chat.completions.create(model=route.alias, **asks())


def test_a_key_rotated_in_the_browser_works_with_both_secrets(page: Page, gateway: Gateway) -> None:
    route, old = gateway.route("openai"), gateway.key(name="rotated-bot")
    page.goto("/admin/accounting/apikey/")
    page.get_by_role("link", name="rotated-bot").click()
    page.get_by_role("link", name="Rotate", exact=True).click()
    page.get_by_label("The old secret").select_option("1")
    page.get_by_role("button", name="Rotate", exact=True).click()
    new = page.locator("#secret").inner_text()
    for secret in (old, new):
        with client(gateway, secret) as caller:
            caller.chat.completions.create(model=route.alias, **asks())
    gateway.wait_settled(route.alias, 2)
    assert [entry["key"] for entry in gateway.entries(route.alias)] == ["rotated-bot"] * 2


def test_a_limit_lowered_in_the_browser_refuses_the_next_request(page: Page, gateway: Gateway) -> None:
    route = gateway.route("openai")
    name = gateway.budget(route, "5")
    with client(gateway) as caller:
        caller.chat.completions.create(model=route.alias, **asks())
        page.get_by_role("link", name="Budgets").click()
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_label("Limit in USD").fill("0")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("was changed successfully")).to_be_visible()
        with pytest.raises(openai.RateLimitError) as refused:
            caller.chat.completions.create(model=route.alias, **asks())
    assert refused.value.code == "budget_exceeded"
    assert len(gateway.entries(route.alias)) == 1


def test_the_overview_names_the_provider_without_a_key_and_the_latest_request(page: Page, gateway: Gateway) -> None:
    route = gateway.route("openai")
    with client(gateway) as caller:
        caller.chat.completions.create(model=route.alias, **asks())
    gateway.wait_settled(route.alias)
    page.goto("/admin/")
    expect(page.locator("#problems")).to_contain_text("The provider google has no key: env:GEMINI_API_KEY")
    row = page.locator("#recent tbody tr").first
    expect(row).to_contain_text(route.alias)
    row.get_by_role("link").click()
    expect(page.locator("#content-main")).to_contain_text(route.providers[0])
    expect(page.locator("#attempts-group")).to_contain_text("answered")


def test_a_key_s_form_stays_short_and_narrow_with_many_aliases_and_long_ones(page: Page) -> None:
    """The limits stand below the list of aliases, which an operator has to pass."""
    page.goto("/admin/accounting/apikey/add/")
    page.evaluate(
        "const row = document.querySelector('#id_allowed_aliases > div');"
        "for (let i = 0; i < 500; i++) row.after(row.cloneNode(true))"
    )
    assert page.evaluate("document.documentElement.scrollHeight") < 3000
    page.evaluate(f"document.querySelector('#id_allowed_aliases span').innerText = '{'a-long-name-' * 8}'")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(
    "path", ["", "routing/modelalias/", "routing/provider/add/", "accounting/ledgerentry/", "accounting/apikey/add/"]
)
def test_no_page_is_wider_than_a_telephone_and_none_complains(page: Page, path: str) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/admin/{path}")
    expect(page.locator("#content-main")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert complaints == []
