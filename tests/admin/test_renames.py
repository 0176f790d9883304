"""When a Django model is renamed, its rows and the operators' rights stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from routing.models import Breaker

BEFORE = [("routing", "0005_provider_keys_and_weights")]


def state_at(target: list[tuple[str, str]]) -> Any:
    return MigrationExecutor(connection).loader.project_state(target).apps


@pytest.fixture
def before_the_renames(transactional_db: None) -> Iterator[Any]:
    """The previous version's database, and its models."""
    call_command("migrate", "routing", "0005", verbosity=0)
    yield state_at(BEFORE)
    call_command("migrate", verbosity=0)


def test_rows_and_permissions_go_along_with_the_new_names(before_the_renames: Any) -> None:
    now = timezone.now()
    before_the_renames.get_model("routing", "BreakerState").objects.create(
        provider="p", model="m", state="open", since=now, open_until=now, failures=5, last_kind="timeout", generation=1
    )
    content_type = ContentType.objects.get(app_label="routing", model="breakerstate")
    permission = Permission.objects.get(content_type=content_type, codename="change_breakerstate")
    operator = User.objects.create_user("grace")
    operator.user_permissions.add(permission)

    call_command("migrate", verbosity=0)

    assert Breaker.objects.get().failures == 5
    assert User.objects.get(username="grace").has_perm("routing.change_breaker")
    assert not Permission.objects.filter(codename__endswith="breakerstate").exists()
