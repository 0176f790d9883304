"""Users and groups: nobody gives rights that he lacks, and somebody stays who may do everything."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import IntegrityError, connection, transaction

from accounting.models import Budget, Change
from tests.admin.conftest import Operator, grant

LIST = "auth/user/"


def page_of(user: User) -> str:
    return f"{LIST}{user.pk}/change/"


def permission(codename: str) -> Permission:
    return Permission.objects.get(codename=codename)


@pytest.fixture
def clerk(configuration: None) -> Operator:
    """May do everything with users and groups, and view budgets."""
    clerk = Operator(User.objects.create_user("carl", is_staff=True))
    rights = [f"{right}_{what}" for right in ("view", "add", "change", "delete") for what in ("user", "group")]
    grant(clerk, *(f"auth.{right}" for right in rights), "accounting.view_budget")
    return clerk


# --- the last superuser ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["is_superuser", "is_active"])
def test_the_last_superuser_is_neither_demoted_nor_deactivated(operator: Operator, field: str) -> None:
    fields = operator.form(page_of(operator.user))
    del fields[field]
    assert "is the last active superuser, and somebody must be one." in operator.post(page_of(operator.user), fields)
    operator.user.refresh_from_db()
    assert operator.user.is_superuser
    assert operator.user.is_active
    User.objects.create_superuser("otto")
    fields = operator.form(page_of(operator.user))
    del fields[field]
    operator.send(page_of(operator.user), fields)
    operator.user.refresh_from_db()
    assert getattr(operator.user, field) is False


def test_the_last_superuser_is_not_deleted(operator: Operator) -> None:
    User.objects.create_superuser("gone", is_active=False)
    assert "is the last active superuser." in operator.post(f"{LIST}{operator.user.pk}/delete/", {"post": "yes"})
    everybody = list(User.objects.values_list("pk", flat=True))
    operator.post(LIST, {"action": "delete_selected", "_selected_action": everybody, "post": "yes"})
    assert User.objects.count() == 2


def test_the_last_two_superusers_are_not_deleted_together(operator: Operator) -> None:
    User.objects.create_superuser("otto")
    everybody = list(User.objects.values_list("pk", flat=True))
    page = operator.post(LIST, {"action": "delete_selected", "_selected_action": everybody, "post": "yes"})
    assert "No active superuser would be left." in page
    assert User.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_two_superusers_who_demote_each_other_at_once_leave_one(operator: Operator) -> None:
    other = Operator(User.objects.create_superuser("otto"))
    forms: list[tuple[Operator, User, dict[str, Any]]] = []
    for client, whom in ((operator, other.user), (other, operator.user)):
        fields = client.form(page_of(whom))
        del fields["is_superuser"]
        forms.append((client, whom, fields))
    start = threading.Barrier(2)

    def send(client: Operator, whom: User, fields: dict[str, Any]) -> None:
        start.wait()
        client.send(page_of(whom), fields)
        connection.close()

    threads = [threading.Thread(target=send, args=form) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert User.objects.filter(is_superuser=True, is_active=True).count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_database_keeps_a_superuser_whoever_takes_it_away_and_when(operator: Operator) -> None:
    other = User.objects.create_superuser("otto")
    demoted, done = threading.Event(), threading.Event()
    refused: list[str] = []

    def demote_first() -> None:
        with transaction.atomic():
            User.objects.filter(pk=operator.user.pk).update(is_superuser=False)
            demoted.set()
            done.wait(0.3)  # the other is waiting for us by then
        connection.close()

    thread = threading.Thread(target=demote_first)
    thread.start()
    demoted.wait()
    try:
        User.objects.filter(pk=other.pk).update(is_superuser=False)
    except IntegrityError as error:
        refused.append(str(error))
    thread.join()
    assert "otto is the last active superuser" in refused[0]
    with (
        pytest.raises(IntegrityError, match="last active superuser"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("DELETE FROM auth_user WHERE username = 'otto'")


# --- rights ---------------------------------------------------------------------------------------------------


def test_who_may_change_users_does_not_become_a_superuser(clerk: Operator) -> None:
    nils = User.objects.create_user("nils")
    for user in (clerk.user, nils):
        clerk.post(page_of(user), clerk.form(page_of(user)), is_superuser="on")
        user.refresh_from_db()
        assert not user.is_superuser


def test_who_may_change_users_gives_no_rights_that_he_lacks(clerk: Operator) -> None:
    nils = User.objects.create_user("nils")
    nils.user_permissions.add(permission("view_price"))  # given by somebody who had it; it stays
    admins = Group.objects.create(name="admins")
    admins.permissions.add(permission("change_budget"))
    for user in (clerk.user, nils):
        before = set(user.user_permissions.values_list("pk", flat=True))
        fields = clerk.form(page_of(user))
        wanted = [str(pk) for pk in before | {permission("change_budget").pk}]
        page = clerk.post(page_of(user), fields, user_permissions=wanted)
        assert "You do not have these rights yourself: accounting.change_budget." in page
        assert "You do not have these rights yourself" in clerk.post(page_of(user), fields, groups=[str(admins.pk)])
        assert set(user.user_permissions.values_list("pk", flat=True)) == before
        assert not user.groups.exists()
    wanted = [str(permission(name).pk) for name in ("view_price", "view_budget")]
    clerk.post(page_of(nils), clerk.form(page_of(nils)), user_permissions=wanted)
    assert set(nils.user_permissions.values_list("codename", flat=True)) == {"view_price", "view_budget"}


def test_who_may_change_groups_puts_no_rights_into_them_that_he_lacks(clerk: Operator) -> None:
    group = Group.objects.create(name="finance")
    path = f"auth/group/{group.pk}/change/"
    page = clerk.post(path, clerk.form(path), permissions=[str(permission("change_budget").pk)])
    assert "You do not have these rights yourself: accounting.change_budget." in page
    clerk.post("auth/group/add/", {"name": "new", "permissions": [str(permission("change_budget").pk)]})
    assert not group.permissions.exists()
    assert not Group.objects.filter(name="new").exists()
    clerk.post(path, clerk.form(path), permissions=[str(permission("view_budget").pk)])
    assert [found.codename for found in group.permissions.all()] == ["view_budget"]


def test_a_superusers_account_is_for_superusers(clerk: Operator, operator: Operator) -> None:
    olga = operator.user
    olga.set_password("the one")
    olga.save()
    operator.client.force_login(olga)
    clerk.send(page_of(olga), operator.form(page_of(olga)), email="carl@example.com", is_active="")
    password = {"password1": "Correct-horse-7", "password2": "Correct-horse-7", "set-password": "1"}
    assert clerk.send(f"{LIST}{olga.pk}/password/", password).status_code == 403
    clerk.send(f"{LIST}{olga.pk}/delete/", {"post": "yes"})
    clerk.post(LIST, {"action": "delete_selected", "_selected_action": [olga.pk], "post": "yes"})
    olga.refresh_from_db()
    assert (olga.email, olga.is_active, olga.check_password("the one")) == ("", True, True)


def test_nobody_sets_the_password_of_one_who_may_do_more(clerk: Operator) -> None:
    budgets, viewer = (User.objects.create_user(name, is_staff=True) for name in ("berta", "vera"))
    budgets.user_permissions.add(permission("change_budget"))
    viewer.user_permissions.add(permission("view_budget"))
    password = {"password1": "Correct-horse-7", "password2": "Correct-horse-7", "set-password": "1"}
    assert clerk.send(f"{LIST}{budgets.pk}/password/", password).status_code == 403
    clerk.send(f"{LIST}{viewer.pk}/password/", password)
    budgets.refresh_from_db()
    viewer.refresh_from_db()
    assert (budgets.has_usable_password(), viewer.check_password("Correct-horse-7")) == (False, True)


# --- history --------------------------------------------------------------------------------------------------


def test_a_user_with_history_is_not_deleted_and_the_page_says_what_to_do(operator: Operator) -> None:
    otto = Operator(User.objects.create_superuser("otto"))
    path = f"accounting/budget/{Budget.objects.get().pk}/change/"
    otto.post(path, otto.form(path), limit_usd="25")
    page = operator.post(f"{LIST}{otto.user.pk}/delete/", {"post": "yes"})
    assert "“otto” has changed things, and the history says by whom: untick Active instead." in page
    assert LogEntry.objects.filter(user=otto.user).count() == 1


def test_a_user_without_history_is_deleted(operator: Operator) -> None:
    nils = User.objects.create_user("nils")
    operator.post(f"{LIST}{nils.pk}/delete/", {"post": "yes"})
    assert not User.objects.filter(pk=nils.pk).exists()


def test_what_an_operator_changes_is_on_record_under_his_name_and_shown(operator: Operator) -> None:
    path = f"accounting/budget/{Budget.objects.get().pk}/change/"
    operator.post(path, operator.form(path), limit_usd="25", name="all")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT actor, road, command, object, field, before, after FROM audit WHERE actor = 'olga' ORDER BY field"
        )
        assert cursor.fetchall() == [
            ("olga", "admin", None, "budget global", "limit_usd", "10", "25"),
            ("olga", "admin", None, "budget global", "name", "global", "all"),
        ]
        cursor.execute("SELECT current_setting('gateway.actor')")
        assert cursor.fetchone() == ("",)  # whoever uses the connection next is not olga
    page = operator.get("accounting/change/?q=olga")
    assert "<div>limit_usd: 10 → 25</div>" in page
    assert "ensure_defaults" not in page


def test_the_audit_is_read_by_whoever_may_and_changed_by_nobody(operator: Operator, newcomer: Operator) -> None:
    path = "accounting/change/"
    assert newcomer.client.get(f"/admin/{path}").status_code == 403
    grant(newcomer, "accounting.view_change")
    assert "alias gpt-4o" in newcomer.get(f"{path}?q=gpt-4o")
    number = Change.objects.all()[0].pk
    for target in (f"{path}add/", f"{path}{number}/change/", f"{path}{number}/delete/"):
        assert operator.send(target, {"actor": "nobody", "post": "yes"}).status_code == 403
    assert "new" in operator.get(f"{path}{number}/change/")
