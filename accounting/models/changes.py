"""That the configuration changed, and who changed what by hand."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from django.db import models


class ConfigurationVersion(models.Model):
    """One row whose ``version`` changes with every committed change of configuration.

    Written by statement triggers on the configuration's tables (``configuration_version.sql``), so an edit by
    plain SQL counts as well. Workers compare it with their snapshot's: *different* means stale; the
    numbers are unique but two concurrent edits may commit them in either order.
    """

    version = models.BigIntegerField()

    class Meta:
        verbose_name = "configuration version"

    def __str__(self) -> str:
        return str(self.version)


class ExactNumbers(json.JSONDecoder):
    """Reads JSON's numbers as they are written, because amounts are among them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parse_float=Decimal, **options)


class Change(models.Model):
    """What somebody changed of the configuration or of the books by hand. Triggers write it (``audit.sql``), and nobody
    changes or deletes it. It names people and objects as text, so it outlives both."""

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)  # the operator, the command's operating system user, or the database user
    road = models.CharField(max_length=16)  # admin, command, sql
    command = models.CharField(max_length=64, blank=True)
    object = models.TextField()
    #: The fields that differ and their values. A new object has no values before, a deleted object has none after.
    before = models.JSONField(decoder=ExactNumbers)
    after = models.JSONField(decoder=ExactNumbers)

    class Meta:
        verbose_name_plural = "audit"
        ordering = ("-pk",)
        indexes = (
            models.Index(fields=("actor",), name="change_actor"),
            models.Index(fields=("object",), name="change_object"),
        )

    def __str__(self) -> str:
        return f"{self.object} by {self.actor}"
