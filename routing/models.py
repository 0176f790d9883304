"""Providers, the aliases that clients ask for, and the fallback chains between aliases.

``routing.catalog`` reads them into an immutable snapshot, and operators edit them live in the admin. Statement triggers
on these tables bump ``accounting.models.ConfigurationVersion``, which is how every worker notices.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Deferrable, F, Q
from django.db.models.functions import Now

from accounting import wildcards
from routing.secrets.references import validate_key_reference

# What may stand in a log line and a header as it is. litellm's names of providers use all of it.
NAME = RegexValidator(
    re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._:/-]*\Z"),
    "Use letters, digits and . _ : / - only, and begin with a letter or digit.",
)


def validate_alias_name(name: str) -> None:
    """Any name that people give to models: "GPT o3", "modèle", "模型". A ``*`` makes it a wildcard."""
    if name != name.strip() or not name.isprintable():
        raise ValidationError("Use printable characters only, and neither begin nor end with a space.")
    if len(name) > ALIAS_CHARACTERS:
        raise ValidationError(f"Use at most {ALIAS_CHARACTERS} characters.")
    if not any(character.isalnum() or character == "*" for character in name):
        raise ValidationError("Use at least one letter or digit.")


def validate_parameters(parameters: object) -> None:
    """What litellm is called with beside model, key and address. No secret is stored: its value is a reference."""
    if not isinstance(parameters, dict) or not all(
        re.fullmatch(r"[a-z][a-z0-9_]*", str(name)) and isinstance(value, str | int | float | bool)
        for name, value in parameters.items()
    ):
        raise ValidationError('Write names and values, such as {"vertex_location": "europe-west1"}.')
    taken = {"model", "messages", "api_key", "api_base", "base_url", "api_version", "timeout", "custom_llm_provider"}
    for name in taken & parameters.keys():
        raise ValidationError(f"“{name}” has a field of its own, or is the request's.")


ALIAS_CHARACTERS = 100
MAX_WEIGHT = 1_000_000
_WEIGHT = (MinValueValidator(1), MaxValueValidator(MAX_WEIGHT))
_SECONDS = (MinValueValidator(0.1), MaxValueValidator(3600))


def validate_base_url(url: str) -> None:
    """Accepts any host of a network, such as ``http://ollama:11434``, which Django's own URLField refuses."""
    try:
        parts = urlsplit(url)
        acceptable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        acceptable = False
    if not acceptable or re.search(r"[\s\x00-\x1f]", url):
        raise ValidationError("Write a URL that begins with http:// or https://, such as http://ollama:11434/v1.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValidationError(
            "Write the address alone, without user, password, ?query or #fragment: what is secret goes into the "
            "key reference."
        )


class Provider(models.Model):
    """A company's API: where it is, which wire format it speaks, where its key is."""

    name = models.CharField(max_length=100, unique=True, validators=[NAME])
    litellm_provider = models.CharField(
        max_length=50,
        help_text="Its wire format in litellm's words: openai, anthropic, gemini, groq, mistral, …",
    )
    base_url = models.CharField(
        "base URL",
        max_length=500,
        blank=True,
        validators=[validate_base_url],
        help_text="Empty: the provider's own. Where a proxy or a local server is.",
    )
    api_version = models.CharField(max_length=50, blank=True, help_text="For providers that ask for one (Azure).")
    key_reference = models.CharField(
        max_length=300,
        blank=True,
        validators=[validate_key_reference],
        help_text="env:NAME or file:/path, read at each use. Empty: the provider needs no key.",
    )
    parameters = models.JSONField(
        default=dict,
        db_default={},
        blank=True,
        validators=[validate_parameters],
        help_text="What else litellm is called with, for providers that it calls itself: "
        '{"vertex_project": "…", "aws_region_name": "…"}. A value os.environ/NAME is read at each use; so write what '
        "is secret. OpenAI takes organization.",
    )
    connect_timeout_s = models.FloatField(default=5, validators=_SECONDS)
    first_token_timeout_s = models.FloatField(
        default=12, validators=_SECONDS, help_text="Streams only. Silent thinkers have more: see the alias."
    )
    idle_timeout_s = models.FloatField(
        default=15, validators=_SECONDS, help_text="Between two signs of life of a stream."
    )
    total_timeout_s = models.FloatField(default=600, validators=_SECONDS)
    retries = models.PositiveSmallIntegerField(
        default=1,
        validators=[MaxValueValidator(10)],
        help_text="Tries of the same deployment after the first.",
    )
    breaker_failures = models.PositiveSmallIntegerField(
        default=5, validators=[MinValueValidator(1)], help_text="Failures in a row that open the breaker."
    )
    breaker_failure_rate = models.FloatField(
        default=0.5,
        validators=[MinValueValidator(0.01), MaxValueValidator(1)],
        help_text="The part of a minute's calls that opens it too, once there are 20 of them.",
    )
    breaker_cooldown_s = models.FloatField(default=30, validators=_SECONDS)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class ProviderKey(models.Model):
    """A further key of a provider. Requests take the keys in turn."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="further_keys")
    key_reference = models.CharField(
        max_length=300, validators=[validate_key_reference], help_text="env:NAME or file:/path, as the first one."
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        verbose_name = "further key"
        ordering = ("provider", "pk")
        constraints = (
            models.UniqueConstraint(
                fields=("provider", "key_reference"),
                name="providerkey_once_a_provider",
                violation_error_message="The provider has this key already.",
            ),
        )

    def __str__(self) -> str:
        return self.key_reference


class ModelAlias(models.Model):
    """The public name that a client sends as ``model``, and the deployment that answers it first."""

    name = models.CharField(
        max_length=ALIAS_CHARACTERS,
        unique=True,
        validators=[validate_alias_name],
        help_text="What clients send as model. With a *, such as openai/*, it answers to every name of that form whose "
        "price is known, unless an alias or a longer wildcard has the name.",
    )
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="aliases")
    upstream_model = models.CharField(
        max_length=200, help_text="The model's name at the provider. A * is what the * of the alias stands for."
    )
    weight = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=_WEIGHT,
        help_text="Its share of the requests among the weighted deployments. Empty: tried in order, after them.",
    )
    output_cap_tokens = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Empty: the model's own maximum, less where a hard budget is small. Sent upstream when the "
        "client sets no limit, and what a hold counts with.",
    )
    first_token_timeout_s = models.FloatField(
        null=True,
        blank=True,
        validators=_SECONDS,
        help_text="Streams only. Empty: the provider's, or ten times that (120 s at most) where a model thinks in "
        "silence.",
    )
    rescues_streams = models.BooleanField(
        "rescues broken streams",
        default=True,
        help_text="When a stream breaks off or stalls, the next step continues the answer. Tool calls are then sent "
        "whole, not in pieces.",
    )
    enabled = models.BooleanField(default=True)
    position = models.PositiveIntegerField(default=0, help_text="Its place in lists.")
    created_at = models.DateTimeField(db_default=Now(), null=True, editable=False)  # null: it is older than this column

    class Meta:
        verbose_name = "alias"
        verbose_name_plural = "aliases"
        ordering = ("position", "name")

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if not wildcards.can_fill(self.name, self.upstream_model):
            raise ValidationError({"upstream_model": "The alias does not say what its * stands for."})


class FurtherDeployment(models.Model):
    """A further deployment of an alias, tried in order after the alias's own and before its fallbacks."""

    alias = models.ForeignKey(ModelAlias, on_delete=models.CASCADE, related_name="deployments")
    position = models.PositiveIntegerField(default=1)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="deployments")
    upstream_model = models.CharField(max_length=200)
    weight = models.PositiveIntegerField(null=True, blank=True, validators=_WEIGHT)

    class Meta:
        db_table = "routing_deployment"  # as for fallbacks
        ordering = ("alias", "position")
        constraints = (
            models.UniqueConstraint(
                fields=("alias", "position"),
                name="deployment_one_a_position",
                deferrable=Deferrable.DEFERRED,
            ),
        )

    def __str__(self) -> str:
        return f"{self.provider} {self.upstream_model}"


class ChainKind(models.TextChoices):
    GENERAL = "general", "when it fails"
    CONTEXT_WINDOW = "context_window", "when the prompt is too long"
    CONTENT_POLICY = "content_policy", "when the content is refused"


class Fallback(models.Model):
    """One fallback of an alias: another alias, whose deployments are tried next."""

    alias = models.ForeignKey(ModelAlias, on_delete=models.CASCADE, related_name="fallbacks")
    kind = models.CharField(max_length=14, choices=ChainKind, default=ChainKind.GENERAL)
    position = models.PositiveIntegerField(default=1)
    target = models.ForeignKey(ModelAlias, on_delete=models.PROTECT, related_name="targeted_by")

    class Meta:
        verbose_name = "fallback"
        db_table = "routing_fallbackstep"  # its name before; workers of the old version run beside a new one
        ordering = ("alias", "kind", "position")
        constraints = (
            # Deferrable, so that two steps may swap their positions in one transaction.
            models.UniqueConstraint(
                fields=("alias", "kind", "position"),
                name="fallbackstep_one_a_position",
                deferrable=Deferrable.DEFERRED,
            ),
            models.UniqueConstraint(
                fields=("alias", "kind", "target"),
                name="fallbackstep_one_a_target",
                deferrable=Deferrable.DEFERRED,
            ),
            models.CheckConstraint(
                condition=~Q(alias=F("target")),
                name="fallbackstep_not_to_itself",
                violation_error_message="An alias cannot fall back to itself.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.position}. {self.target}"


#: The names of these two in 0.1.0, which scripts of operators still have.
Deployment = FurtherDeployment
FallbackStep = Fallback


class BreakerState(models.TextChoices):
    CLOSED = "closed"
    OPEN = "open"


class Breaker(models.Model):
    """The state of a deployment's breaker that workers and replicas share.

    `routing.breakers.sharing` writes it, and so does an operator who closes a breaker. Times are by the database's
    clock. The table is not configuration, so a change makes no new version.

    After ``open_until`` an open breaker is half-open, and one request may claim the probe. The claim lasts until
    ``probe_until``, and its process renews it while the probe runs. ``generation`` changes when the breaker opens or
    closes and when a probe is claimed or ends. So the late result of a probe cannot overrule a later decision.
    """

    provider = models.CharField(max_length=100)
    model = models.CharField(max_length=200)
    state = models.CharField(max_length=6, choices=BreakerState)
    since = models.DateTimeField(help_text="Since when it is in this state.")
    open_until = models.DateTimeField()
    probe_until = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(help_text="Those that opened it, and its probes' since.")
    last_kind = models.CharField("last failure", max_length=20)
    generation = models.BigIntegerField()
    reset_by = models.CharField("closed by", max_length=150, blank=True, help_text="The operator who closed it last.")
    reset_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "routing_breakerstate"  # as for fallbacks; breakers/sql/ names it
        ordering = ("-state", "-since")
        constraints = (models.UniqueConstraint(fields=("provider", "model"), name="breakerstate_one_a_deployment"),)

    def __str__(self) -> str:
        return f"{self.provider} {self.model}"


class BreakerUse(models.Model):
    """Which API keys have called a deployment lately, and whose calls have failed, for `routing.breakers.sharing`.

    Not configuration, like `Breaker`. ``key_id`` is 0 for the callers of open mode."""

    provider = models.CharField(max_length=100)
    model = models.CharField(max_length=200)
    key_id = models.BigIntegerField()
    used_at = models.DateTimeField()
    failed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("provider", "model", "key_id"), name="breakeruse_one_a_key_and_deployment"),
        )

    def __str__(self) -> str:
        return f"{self.key_id} at {self.provider} {self.model}"


class SignInTries(models.Model):
    """How often somebody tried to sign in to the admin since a moment. ``routing.sign_ins`` writes it.

    A row counts a user's name at an address. Without a name it counts an address, without an address a name.
    """

    user_name = models.CharField(max_length=150, blank=True)
    address = models.CharField(max_length=45, blank=True)
    tries = models.PositiveIntegerField()
    since = models.DateTimeField()
    signed_in_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = verbose_name_plural = "sign-in tries"
        constraints = (models.UniqueConstraint(fields=("user_name", "address"), name="signintries_one_a_pair"),)

    def __str__(self) -> str:
        return f"{self.user_name}@{self.address}: {self.tries}"
