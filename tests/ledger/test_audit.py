"""Every change of the configuration is on record, field by field, whichever road it took, and secrets are not."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from accounting import audit
from accounting.keys import fields_for
from accounting.ledger.corrections import adjust
from accounting.models import ApiKey, Budget, Change, Price
from accounting.pricing import PriceList
from routing import defaults
from routing.models import Fallback, ModelAlias, Provider
from tests.ledger.conftest import Book

pytestmark = pytest.mark.django_db

MOMENT = datetime(2026, 3, 2, tzinfo=UTC)
RATE = (
    ("above_input_tokens", "0"),
    ("meter", "input"),
    ("qualifier", ""),
    ("tier", "standard"),
    ("usd_per_unit", "1.25"),
)


def rows(*columns: str, of: str = "%") -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)} FROM audit WHERE object LIKE %s ORDER BY change_id, field", [of])
        return list(cursor.fetchall())


def test_a_change_by_sql_is_on_record_under_the_database_users_name() -> None:
    budget = Budget.objects.create(name="team", limit_usd=10)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounting_budget SET limit_usd = 25, mode = 'soft' WHERE id = %s", [budget.pk])
        cursor.execute("SELECT session_user")
        (user,) = cursor.fetchone()
    assert rows("actor", "road", "command", "object", "field", "before", "after")[-2:] == [
        (user, "sql", None, "budget team", "limit_usd", "10", "25"),
        (user, "sql", None, "budget team", "mode", "hard", "soft"),
    ]


def test_who_is_named_did_it_and_nobody_after_him() -> None:
    budget = Budget.objects.create(name="team", limit_usd=10)
    with audit.acting("olga", "admin"):
        Budget.objects.filter(pk=budget.pk).update(limit_usd=25)
    budget.delete()
    assert rows("actor", "road", of="budget team")[-1] != ("olga", "admin")
    assert [row for row in rows("actor", "road", "field", "before", "after") if row[0] == "olga"] == [
        ("olga", "admin", "limit_usd", "10", "25")
    ]


def test_what_is_made_and_what_is_deleted_has_all_its_values() -> None:
    price = Price.objects.add(
        "openai",
        "gpt-5",
        MOMENT,
        PriceList.of({"standard": {"input": "1.25"}}),
        "a list",
    )
    price.delete()
    name = "price openai gpt-5 from 2026-03-02 00:00"
    assert rows("object", "field", "before", "after", of="price%") == [
        (name, "effective_from", None, "2026-03-02T00:00:00+00:00"),
        (name, "model", None, "gpt-5"),
        (name, "provider", None, "openai"),
        (name, "source", None, "a list"),
        *((f"{name}, rate input standard", field, None, after) for field, after in RATE),
        *((f"{name}, rate input standard", field, after, None) for field, after in RATE),
        (name, "effective_from", "2026-03-02T00:00:00+00:00", None),
        (name, "model", "gpt-5", None),
        (name, "provider", "openai", None),
        (name, "source", "a list", None),
    ]


def test_chains_and_deployments_name_what_they_lead_to() -> None:
    defaults.ensure()
    step = Fallback.objects.get(alias__name="gpt-4o")
    Fallback.objects.filter(pk=step.pk).update(target=ModelAlias.objects.get(name="gemini-flash"))
    ModelAlias.objects.filter(name="gpt-4o").update(provider=Provider.objects.get(name="google"))
    assert rows("object", "field", "before", "after")[-2:] == [
        ("alias gpt-4o, fallback 1", "target", "gemini-pro", "gemini-flash"),
        ("alias gpt-4o", "provider", "openai", "google"),
    ]


def test_no_secret_is_on_record_and_that_it_changed_is() -> None:
    key = ApiKey.objects.create(name="bot", **fields_for("sk-gw-first-secret-of-bot"))
    ApiKey.objects.filter(pk=key.pk).update(**fields_for("sk-gw-other-secret-of-bot"))
    user = User.objects.create_user("ute", password="a first password")
    User.objects.filter(pk=user.pk).update(password="pbkdf2_sha256$1$salt$other")
    provider = Provider.objects.create(
        name="aws", litellm_provider="bedrock", key_reference="env:AWS_KEY",
        parameters={"aws_secret_access_key": "wJalrXUt", "aws_access_key_id": "os.environ/AWS_ID", "aws_region": "eu"},
    )  # fmt: skip
    Provider.objects.filter(pk=provider.pk).update(key_reference="sk-proj-pasted-by-sql")
    recorded = rows("object", "field", "before", "after")
    assert ("key bot", "digest", "(secret)", "(secret)") in recorded
    assert ("user ute", "password", "(secret)", "(secret)") in recorded
    assert ("provider aws", "key_reference", "env:AWS_KEY", "(secret)") in recorded
    (parameters,) = (row[3] for row in recorded if row[1] == "parameters")
    assert '"aws_region": "eu"' in parameters
    assert '"aws_access_key_id": "os.environ/AWS_ID"' in parameters
    everything = str(list(Change.objects.values()))
    for secret in ("wJalrXUt", "pasted", "pbkdf2", "salt", fields_for("sk-gw-first-secret-of-bot")["digest"]):
        assert secret not in everything


def test_rights_are_on_record_and_signing_in_is_not() -> None:
    user, group = User.objects.create_user("ute"), Group.objects.create(name="finance")
    count = Change.objects.count()
    User.objects.filter(pk=user.pk).update(last_login=MOMENT)
    assert Change.objects.count() == count
    user.groups.add(group)
    permission = Permission.objects.get(codename="view_budget")
    group.permissions.add(permission)
    user.user_permissions.add(permission)
    user.user_permissions.clear()
    assert rows("object", "field", "before", "after")[-4:] == [
        ("user ute", "group", None, "finance"),
        ("group finance", "permission", None, "accounting.view_budget"),
        ("user ute", "permission", None, "accounting.view_budget"),
        ("user ute", "permission", "accounting.view_budget", None),
    ]


def test_corrections_of_the_books_are_on_record_and_requests_are_not(book: Book) -> None:
    hold = book.hold("0.5")
    book.post(hold, "0.3")
    assert rows("object", of="entry%") == []
    with audit.acting("olga", "admin"):
        adjust(hold.entry_id, amount_usd=Decimal("-0.1"), author="olga", reason="Credit note 3")
    assert rows("actor", "road", "field", "before", "after", of=f"adjustment of entry {hold.entry_id}") == [
        ("olga", "admin", "amount_usd", None, "-0.1"),
        ("olga", "admin", "author", None, "olga"),
        ("olga", "admin", "reason", None, "Credit note 3"),
    ]


def test_the_record_is_not_changed_and_outlives_those_it_names() -> None:
    with audit.acting("ute", "admin"):
        Budget.objects.create(name="team", limit_usd=10)
    User.objects.filter(username="ute").delete()
    for statement in ("UPDATE accounting_change SET actor = 'x'", "DELETE FROM accounting_change"):
        with pytest.raises(IntegrityError, match="are not changed or deleted"), transaction.atomic():
            connection.cursor().execute(statement)
    assert Change.objects.filter(actor="ute").count() == 1


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        (["ensure_defaults"], "alias claude-sonnet"),
        (["create_key", "bot", "--budget", "2"], "budget key bot"),
        (["load_config", "FILE"], "alias small"),
    ],
)
def test_a_command_is_named_with_what_it_changed(
    command: list[str], changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "root-of-night")
    file = tmp_path / "config.yaml"
    file.write_text("model_list:\n- model_name: small\n  litellm_params: {model: openai/gpt-4o-mini}\n")
    call_command(*(str(file) if word == "FILE" else word for word in command), stdout=StringIO())
    made = rows("actor", "road", "command", of=changed)
    assert set(made) == {("root-of-night", "command", command[0])}
    count = Change.objects.count()
    if command[0] == "load_config":
        call_command("load_config", str(file), "--dry-run", stdout=StringIO())
        assert Change.objects.count() == count


def test_each_table_that_makes_a_new_version_is_on_record() -> None:
    """A table without these triggers would be changed unseen. A migration of ours has the pattern."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, substring(tgname from '_(live|audit_insert|audit_update|audit_delete)')"
            " FROM pg_trigger WHERE tgname ~ '^(accounting|routing)_(live|audit)_'"
        )
        found: dict[str, set[str]] = {}
        for table, kind in cursor.fetchall():
            found.setdefault(table, set()).add(kind)
    assert {table for table, kinds in found.items() if "live" in kinds and len(kinds) != 4} == set()
