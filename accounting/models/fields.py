"""Columns that several models have."""

from __future__ import annotations

from typing import Any

from django.db import models

from accounting.usage import Tier


def usd(**options: Any) -> models.DecimalField[Any, Any]:
    return models.DecimalField(max_digits=20, decimal_places=12, **options)


def tier() -> models.CharField[Any, Any]:
    return models.CharField(
        max_length=8,
        choices=[(tier.value, tier.value) for tier in Tier],
        default=Tier.STANDARD,
        db_default=Tier.STANDARD,
    )


def quantities() -> models.JSONField[Any, Any]:
    """Of the meters that have no column, by name, as text: ``{"search:high": "3"}``."""
    return models.JSONField(default=dict, db_default={})
