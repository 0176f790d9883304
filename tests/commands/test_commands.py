"""The commands as their reader sees them, on a real database."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from accounting import keys
from accounting.models import ApiKey, Budget, BudgetPeriod, LedgerEntry, Price
from routing import defaults
from tests.clocks import eventually
from tests.ledger.conftest import Book
from tests.prices import rate, set_rate


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


# --- create_key --------------------------------------------------------------------------------------------


@pytest.fixture
def _configured(transactional_db: None) -> None:
    defaults.ensure()


@pytest.mark.usefixtures("_configured")
def test_create_key_prints_the_key_once_and_stores_its_hash() -> None:
    *_, secret = run("create_key", "bot").splitlines()
    key = ApiKey.objects.get()
    assert (key.name, key.digest, key.prefix) == ("bot", keys.digest(secret), secret[:10])
    assert secret not in json.dumps(list(ApiKey.objects.values()), default=str)


@pytest.mark.usefixtures("_configured")
def test_create_key_takes_aliases_limits_a_budget_and_an_end() -> None:
    before = datetime.now(UTC)
    run(
        "create_key", "bot", "--alias", "gpt-4o", "--alias", "gemini-pro", "--budget", "2.50", "--period", "month",
        "--rpm", "60", "--tpm", "1000", "--concurrent", "4", "--expires", "30d",
    )  # fmt: skip
    key = ApiKey.objects.get()
    assert key.allowed_aliases == ["gpt-4o", "gemini-pro"]
    assert (key.requests_per_minute, key.tokens_per_minute, key.concurrent_requests) == (60, 1000, 4)
    assert key.expires_at is not None
    assert timedelta(days=30) <= key.expires_at - before < timedelta(days=30, minutes=1)
    budget = Budget.objects.get(api_key=key)
    assert (budget.scope, budget.mode, budget.limit_usd, budget.period) == ("key", "hard", Decimal("2.5"), "month")


@pytest.mark.usefixtures("_configured")
def test_create_key_says_whose_money_it_is() -> None:
    run(
        "create_key", "bot", "--owner", "Growth", "--tag", "team=red", "--tag", "cost centre=a=b", "--required-tag",
        "project", "--end-user", "crm", "--ignore-end-users", "--alias", "gpt-4o", "--bind-fallbacks",
    )  # fmt: skip
    key = ApiKey.objects.get()
    assert (key.owner, key.tags, key.required_tags) == ("Growth", {"team": "red", "cost centre": "a=b"}, ["project"])
    assert (key.end_user, key.callers_name_end_users, key.binds_fallbacks) == ("crm", False, True)
    run("create_key", "plain")
    plain = ApiKey.objects.get(name="plain")
    assert (plain.owner, plain.tags, plain.required_tags, plain.end_user) == ("", {}, [], "")
    assert (plain.callers_name_end_users, plain.binds_fallbacks) == (True, False)


@pytest.mark.usefixtures("_configured")
def test_create_key_needs_a_name() -> None:
    with pytest.raises(CommandError, match="NAME: This field cannot be blank"):
        run("create_key", "")
    assert not ApiKey.objects.exists()


@pytest.mark.usefixtures("_configured")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--alias", "gpt-5"), "Use one of: claude-sonnet, gpt-4o, gemini-pro, gemini-flash"),
        (("--budget", "much"), "not an amount of USD"),
        (("--budget", "-1"), "not an amount of USD"),
        (("--period", "day"), "--period belongs to --budget"),
        (("--rpm", "0"), "--rpm must be 1 or more"),
        (("--tag", "red"), "write NAME=VALUE"),
        (("--tag", "team=red", "--tag", "team=blue"), "each name once"),
        (("--tag", "team="), "--tag: The tag “team” needs a printable value"),
        (("--required-tag", "a=b"), "--required-tag: A tag's name has 1 to 64"),
        (("--owner", "x" * 201), "--owner: Ensure this value has at most 200 characters"),
        (("--expires", "soon"), "not a day or time"),
        (("--expires", "2020-01-01"), "is in the past"),
        (("--expires", "0d"), "is in the past"),
        (("--rpm", "99999999999"), "--rpm: Ensure this value is less than or equal to 2147483647"),
        (("--budget", "0.0000000000001"), "--budget: Ensure that there are no more than 12 decimal places"),
        (("--budget", "1", "--time-zone", "Mars/Base"), "not a time zone"),
    ],
)
def test_create_key_explains_bad_input_and_creates_nothing(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        run("create_key", "bot", *arguments)
    assert not ApiKey.objects.exists()
    assert Budget.objects.count() == 1


@pytest.mark.usefixtures("_configured")
def test_create_key_refuses_a_name_that_is_taken_or_kept() -> None:
    run("create_key", "bot")
    with pytest.raises(CommandError, match="NAME: API key with this Name already exists"):
        run("create_key", "bot")
    with pytest.raises(CommandError, match="anonymous"):
        run("create_key", "anonymous")
    assert ApiKey.objects.count() == 1


# --- reconcile ---------------------------------------------------------------------------------------------


def test_reconcile_says_that_the_books_are_right(book: Book) -> None:
    book.budget("10")
    book.post(book.hold("1"), "0.25")
    book.void(book.hold("1"))
    book.hold("1")
    assert run("reconcile") == "the books are right: 1 budget periods, 3 entries\n"


def test_reconcile_exits_1_and_says_where_by_how_much_and_since_when(book: Book) -> None:
    book.budget("10")
    book.post(book.hold("1"), "0.25")
    entry = LedgerEntry.objects.get()
    BudgetPeriod.objects.update(posted_usd=Decimal("0.20"))
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile", stdout=out)
    assert ended.value.code == 1
    (said, summary) = out.getvalue().splitlines()
    assert said.startswith("budget 'global', period from ")
    assert "posted is not the sum of its charges: 0.2 instead of 0.25 (-0.05 USD), since " in said
    assert f"{entry.created_at:%Y-%m-%d %H:%M:%S} UTC" in said
    assert summary == "1 discrepancies in 1 budget periods, 1 entries"
    BudgetPeriod.objects.update(posted_usd=Decimal("0.25"))


def test_reconcile_finds_an_entry_that_is_charged_otherwise_than_it_cost(book: Book) -> None:
    book.budget("10")
    book.post(book.hold("1"), "0.25")
    rewrite = "UPDATE accounting_ledgerentry SET cost_usd = "
    with connection.cursor() as cursor:  # as somebody with all rights could
        cursor.execute("ALTER TABLE accounting_ledgerentry DISABLE TRIGGER USER")
        cursor.execute(rewrite + "0.30")
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("reconcile", stdout=out)
    with connection.cursor() as cursor:
        cursor.execute(rewrite + "0.25")
        cursor.execute("ALTER TABLE accounting_ledgerentry ENABLE TRIGGER USER")
    assert "its charge to the budget 'global' is not its cost: 0.25 instead of 0.3 (-0.05 USD)" in out.getvalue()
    assert "its cost is not that of its attempts: 0.3 instead of 0.25 (+0.05 USD)" in out.getvalue()
    assert run("reconcile") == "the books are right: 1 budget periods, 1 entries\n"


# --- expire_holds --------------------------------------------------------------------------------------------


def test_expire_holds_resolves_what_a_dead_worker_held(book: Book) -> None:
    book.budget("10")
    book.hold("0.5", request_id="req-lost")
    book.lose_writer()
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gateway ledger writer'"
    assert eventually(lambda: book.rows(sessions + " AND datname = current_database()") == [(0,)])
    assert run("expire_holds").splitlines() == [
        "req-lost: unknown, charged at its hold (0.5 USD)",
        "1 holds expired; resolve them in the admin",
    ]
    assert LedgerEntry.objects.get().state == "unknown"
    assert book.balance() == (Decimal("0.5"), Decimal(0))
    assert run("expire_holds") == "no hold to expire\n"


def test_expire_holds_leaves_a_living_workers_holds(book: Book) -> None:
    book.budget("10")
    book.hold("0.5")
    assert run("expire_holds") == "no hold to expire\n"
    assert LedgerEntry.objects.get().state == "held"


# --- spend_report --------------------------------------------------------------------------------------------


def test_spend_report_of_an_empty_ledger_says_so(book: Book) -> None:
    assert run("spend_report") == "nothing was spent in this time\n"


def test_spend_report_has_no_cell_that_a_spreadsheet_runs(book: Book) -> None:
    for user in ('=HYPERLINK("http://x.example","y")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "plain"):
        book.post(book.hold("1", end_user=user, tags={"=team": user}, owner="=owner"), "0.25")
    for by in ("user", "tag:=team", "owner"):
        (header, *rows) = csv.reader(StringIO(run("spend_report", "--by", by, "--format", "csv"), newline=""))
        cells = [cell for row in (header, *rows) for cell in row]
        assert not [cell for cell in cells if cell[:1] in "=+-@\t\r" and cell]
    assert [row["user"] for row in json.loads(run("spend_report", "--by", "user", "--format", "json"))][-1] == "plain"
    (owned,) = csv.DictReader(StringIO(run("spend_report", "--by", "owner", "--format", "csv")))
    assert owned == {
        "owner": "'=owner", "requests": "6", "failed": "0", "input_tokens": "60", "output_tokens": "120",
        "cost_usd": "1.5", "unpriced": "0",
    }  # fmt: skip


def test_spend_report_is_exact_in_every_format(book: Book) -> None:
    book.post(book.hold("1", key="bot", alias="gpt-4o", tags={"team": "a"}), "0.000000000001")
    book.post(book.hold("1", key="bot", alias="claude-sonnet", tags={"team": "b"}), "0.25")
    book.void(book.hold("1", key="crawler", alias="claude-sonnet"))
    lines = run("spend_report", "--by", "alias").splitlines()
    assert [line.split() for line in lines if not line.startswith("-")] == [
        ["alias", "requests", "failed", "input_tokens", "output_tokens", "cost_usd", "unpriced"],
        ["claude-sonnet", "2", "1", "10", "20", "0.25", "0"],
        ["gpt-4o", "1", "0", "10", "20", "0.000000000001", "0"],
        ["total", "3", "1", "20", "40", "0.250000000001", "0"],
    ]
    assert list(csv.DictReader(StringIO(run("spend_report", "--by", "key", "--format", "csv")))) == [
        {"key": "bot", "requests": "2", "failed": "0", "input_tokens": "20", "output_tokens": "40",
         "cost_usd": "0.250000000001", "unpriced": "0"},
        {"key": "crawler", "requests": "1", "failed": "1", "input_tokens": "0", "output_tokens": "0",
         "cost_usd": "0", "unpriced": "0"},
    ]  # fmt: skip
    by_team = json.loads(run("spend_report", "--by", "tag:team", "--format", "json"))
    assert [(row["team"], row["cost_usd"]) for row in by_team] == [("a", "0.000000000001"), ("b", "0.25"), (None, "0")]


def test_spend_report_counts_days_in_the_asked_time_zone(book: Book) -> None:
    book.post(book.hold("1"), "0.25")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE accounting_ledgerentry DISABLE TRIGGER USER")
        cursor.execute("UPDATE accounting_ledgerentry SET created_at = '2026-11-01T22:30:00Z'")
        cursor.execute("ALTER TABLE accounting_ledgerentry ENABLE TRIGGER USER")
    assert run("spend_report").splitlines()[2].startswith("2026-11-01")
    assert run("spend_report", "--time-zone", "Asia/Kolkata").splitlines()[2].startswith("2026-11-02")
    assert run("spend_report", "--since", "2026-11-02") == "nothing was spent in this time\n"
    assert "0.25" in run("spend_report", "--since", "2026-11-02", "--time-zone", "Asia/Kolkata")


def test_spend_report_agrees_with_the_views(book: Book) -> None:
    for cost in ("0.1", "0.000000000007", "1.25"):
        book.post(book.hold("2", alias="gpt-4o"), cost)
    total = Decimal("1.350000000007")
    for view in ("spend_by_day", "spend_by_alias", "spend_by_key", "spend_by_provider"):
        assert book.rows(f"SELECT sum(cost_usd), sum(requests) FROM {view}") == [(total, 3)], view
    for by in ("day", "hour", "month", "alias", "served_alias", "provider", "model", "key", "user"):
        (row,) = json.loads(run("spend_report", "--by", by, "--format", "json"))
        assert Decimal(row["cost_usd"]) == total, by


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--by", "colour"), "use one of day, hour"),
        (("--since", "yesterday"), "not a day or time"),
        (("--time-zone", "Mars/Base"), "not a time zone"),
        (("--since", "2026-03-31", "--until", "2026-03-01"), "--until '2026-03-01' is not after --since '2026-03-31'"),
    ],
)
@pytest.mark.django_db
def test_spend_report_explains_bad_input(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        run("spend_report", *arguments)


# --- import_prices -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_configured")
def test_import_prices_shows_the_difference_and_writes_it_only_when_told() -> None:
    assert run("import_prices", "--model", "gpt-4o") == "every price is litellm's; nothing to do\n"
    set_rate(Price.objects.get(model="gpt-4o"), "3")
    before = Price.objects.count()
    shown = run("import_prices", "--model", "gpt-4o")
    assert shown.splitlines() == [
        "openai gpt-4o: changed",
        "  input 3 → 2.5",
        "1 prices differ; --apply writes them, effective from now",
    ]
    assert Price.objects.count() == before
    run("import_prices", "--model", "gpt-4o", "--apply")
    newest = Price.objects.filter(model="gpt-4o").order_by("-effective_from").first()
    assert newest is not None
    assert (rate(newest), newest.source) == (Decimal("2.5"), "litellm price map")
    assert Price.objects.count() == before + 1
    assert run("import_prices") == "every price is litellm's; nothing to do\n"


@pytest.mark.usefixtures("_configured")
def test_import_prices_names_the_models_in_use_when_asked_for_another() -> None:
    with pytest.raises(CommandError, match=r"Use one of: claude-sonnet-4-6, gemini-2\.5-flash-lite"):
        run("import_prices", "--model", "gpt-3")
