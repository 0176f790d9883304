"""What was refused before it was admitted."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounting.models import fields


class RefusedRequest(models.Model):
    """A request that the gateway refused before it was admitted, or how many of the same there were in a minute.

    Nothing was held for it and nobody was called. Written by ``accounting.refused_requests`` alone, which also deletes
    what is older than it keeps."""

    at = models.DateTimeField()  # of a count: the minute's beginning
    request_id = models.CharField(max_length=128, blank=True)  # empty: a count
    key = models.CharField(max_length=100, blank=True)  # empty: no key of ours was presented
    key_id = models.BigIntegerField(null=True)
    alias = models.CharField(max_length=100, blank=True)  # asked for
    endpoint = models.CharField(max_length=32, blank=True)
    end_user = models.CharField(max_length=200, blank=True)
    tags = models.JSONField(default=dict)
    code = models.CharField(max_length=64)  # of the error
    message = models.CharField(max_length=500, blank=True)  # what the client was told; of a count, the last
    budget = models.CharField(max_length=100, blank=True)  # empty: no budget refused it
    limit_usd = fields.usd(null=True)
    spent_usd = fields.usd(null=True)
    held_usd = fields.usd(null=True)
    asked_usd = fields.usd(null=True)
    count = models.PositiveIntegerField(default=1)

    class Meta:
        verbose_name = "refused request"
        ordering = ("-at", "-pk")
        indexes = (
            models.Index(fields=("-at", "-id"), name="refused_at"),
            models.Index(fields=("request_id",), name="refused_request_id", condition=~Q(request_id="")),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("at", "key", "alias", "endpoint", "code", "budget"),
                name="refused_one_count_a_minute",
                condition=Q(request_id=""),
            ),
        )

    def __str__(self) -> str:
        return f"{self.request_id or self.count} {self.alias} {self.code}"
