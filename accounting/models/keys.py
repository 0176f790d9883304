"""Who may ask: keys of ours, and what each has used in a minute."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from accounting.tags import MAX_TAGS, NAME_CHARACTERS, VALUE_CHARACTERS

ANONYMOUS = "anonymous"  # the key name that requests without a key of ours are accounted to (GATEWAY_AUTH=open)


def validate_fixed_tags(tags: object) -> None:
    """Names and values as budgets can name them: ``name=value``."""
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise ValidationError("Write names and texts, such as team=red.")
    validate_tag_names(list(tags))
    for name, value in tags.items():
        if not value or not value.isprintable() or len(value) > VALUE_CHARACTERS:
            raise ValidationError(f"The tag “{name}” needs a printable value of at most {VALUE_CHARACTERS} characters.")


def validate_tag_names(names: list[str]) -> None:
    if len(names) > MAX_TAGS:
        raise ValidationError(f"There may be {MAX_TAGS} tags at the most.")
    for name in names:
        if not name or "=" in name or not name.isprintable() or len(name) > NAME_CHARACTERS:
            raise ValidationError(
                f"A tag's name has 1 to {NAME_CHARACTERS} printable characters and no “=”, unlike “{name}”."
            )


class ApiKey(models.Model):
    """A key of ours, for one client. The key itself is shown once and stored as its SHA-256 only.

    After a rotation the secret before is good until ``old_valid_until``."""

    name = models.CharField(max_length=100, unique=True, help_text="Who uses it; the ledger shows this name.")
    owner = models.CharField(
        max_length=200, blank=True, db_default="", help_text="Who answers for its spending: a person or a team."
    )
    prefix = models.CharField(max_length=16, editable=False, help_text="The key's first characters.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    enabled = models.BooleanField(default=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    allowed_aliases = ArrayField(
        models.CharField(max_length=100),
        default=list,
        blank=True,
        help_text="The aliases that this key may use. Empty: all of them.",
    )
    uses_wildcards = models.BooleanField(
        "may use wildcards",
        default=True,
        db_default=True,
        help_text="Models that no alias names and that a wildcard such as openai/* answers to.",
    )
    binds_fallbacks = models.BooleanField(
        "binds fallbacks too",
        default=False,
        db_default=False,
        help_text="Its aliases are also the only ones that may answer as fallbacks. Otherwise an alias that the key "
        "may use falls back to whatever its chain says.",
    )
    tags = models.JSONField(
        "fixed tags",
        default=dict,
        db_default={},
        blank=True,
        validators=[validate_fixed_tags],
        help_text="Each request of the key has them, whatever its metadata says.",
    )
    required_tags = ArrayField(
        models.CharField(max_length=NAME_CHARACTERS),
        default=list,
        db_default=[],
        blank=True,
        validators=[validate_tag_names],
        help_text="Tags that each request must have in its metadata, with commas between. Others are refused.",
    )
    callers_name_end_users = models.BooleanField(
        "takes the request's end user",
        default=True,
        db_default=True,
        help_text="Otherwise user and safety_identifier of a request do not count here.",
    )
    end_user = models.CharField(
        max_length=200,
        blank=True,
        db_default="",
        help_text="Whose a request is when it names no end user, or may not name one.",
    )
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    # Empty: the books set no limit. A worker has one for each key all the same (routing/api/places.py).
    concurrent_requests = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    created_at = models.DateTimeField(auto_now_add=True)
    rotated_at = models.DateTimeField(null=True, editable=False)
    old_prefix = models.CharField(max_length=16, blank=True, db_default="", editable=False)
    old_digest = models.CharField(max_length=64, blank=True, db_default="", editable=False)
    old_valid_until = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = "API key"
        verbose_name_plural = "API keys"
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                condition=~Q(name=ANONYMOUS),
                name="apikey_name_not_anonymous",
                violation_error_message="The name “anonymous” is kept for requests without a key.",
            ),
        )

    def __str__(self) -> str:
        return self.name


class KeyRate(models.Model):
    """What a key with rate limits has used in a minute. One row a key, locked by the ledger alone."""

    key_id = models.BigIntegerField(primary_key=True)
    minute = models.DateTimeField()
    requests = models.IntegerField(default=0)
    tokens = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.key_id}: {self.requests} requests, {self.tokens} tokens"
