"""What an operator must act on: one list of checks, of which the first page is green only when each one passed.

A check says which rights its answer needs. An operator without them reads that it was not shown, and never that all
is well. What happens in one worker is read where all workers write it: breakers, attempts, and the ledger's sessions
are in Postgres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property

import psycopg
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.models import User as Account
from django.core import checks as system_checks
from django.db import Error, connection
from django.db.models import Count, Q, Sum
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from accounting import reports, sql, wildcards
from accounting.amounts import usd
from accounting.ledger.writable import prove_writable
from accounting.models import Budget, BudgetMode, EntryState, LedgerEntry, Reconciliation, RefusedRequest
from accounting.reports import BudgetStatus
from routing import catalog
from routing.admin.breakers import PHASE
from routing.admin.budgets import scope_of, that_limit_nothing
from routing.admin.names import few
from routing.models import Breaker, BreakerState, ModelAlias, Provider
from routing.secrets import references

User = Account | AnonymousUser

SHOWN = 3  # problems of one check; the rest is a number, so that two hundred of a kind hide no other kind
NEARLY = Decimal("0.8")  # of a limit
FAILING = 0.05  # of the last hour's requests
BUSY_S = 3.0  # a writer that is longer at one transaction is stuck
OVERDUE_S = 15  # after its time a hold is expired within seconds, so a longer wait means that nobody looks


@dataclass(frozen=True, slots=True)
class Problem:
    """``link`` is the page on which to act; empty when no page of the admin can."""

    text: str | SafeString
    link: str = ""
    is_urgent: bool = False  # requests are refused or fail, or the books are wrong, now


@dataclass(frozen=True, slots=True)
class Check:
    subject: str  # what it is about, for "Not shown to you: …"
    passed: str  # what is true when it finds nothing
    rights: tuple[str, ...]
    look: Callable[[Situation], list[Problem]]
    all_of_them: str = ""  # the admin page that lists what does not fit here
    superusers_only: bool = False

    def may_be_seen_by(self, user: User) -> bool:
        return user.is_superuser if self.superusers_only else all(user.has_perm(right) for right in self.rights)


@dataclass(frozen=True, slots=True)
class Findings:
    """The problems of one check: the first, and how many more."""

    problems: list[Problem]
    more: int
    all_of_them: str


@dataclass(slots=True)
class Verdict:
    found: list[Findings] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # subjects of checks that the operator may not see
    is_urgent: bool = False

    @property
    def all_is_well(self) -> bool:
        return not self.found and not self.hidden


def judge(user: User) -> Verdict:
    """Make every check that the operator may see. A check that cannot be made has not passed."""
    verdict, situation = Verdict(), Situation(user)
    for check in CHECKS:
        if not check.may_be_seen_by(user):
            verdict.hidden.append(check.subject)
            continue
        try:
            problems = check.look(situation)
        except Error as error:
            problems = [Problem(f"Nobody knows about {check.subject}: Postgres refused to say ({_name(error)}).")]
        if not problems:
            verdict.passed.append(check.passed)
            continue
        problems = sorted(problems, key=lambda problem: not problem.is_urgent)
        shown = problems if len(problems) <= SHOWN + 1 else problems[:SHOWN]
        all_of_them = reverse(check.all_of_them) if check.all_of_them else ""
        verdict.found.append(Findings(shown, len(problems) - len(shown), all_of_them))
        verdict.is_urgent = verdict.is_urgent or problems[0].is_urgent
    verdict.found.sort(key=lambda findings: not findings.problems[0].is_urgent)
    return verdict


class Situation:
    """What several checks look at, read once a page."""

    def __init__(self, user: User) -> None:
        self.user = user
        self._has_key: dict[str, bool] = {}

    @cached_property
    def snapshot(self) -> catalog.Catalog:
        return catalog.fresh()

    @cached_property
    def aliases(self) -> list[catalog.Alias]:
        """The enabled ones."""
        return [alias for alias in self.snapshot.aliases.values() if alias.enabled]

    @cached_property
    def steps(self) -> list[catalog.Step]:
        """Every deployment that a request may reach now."""
        return [step for alias in self.aliases for step in alias.own if step.provider.enabled]

    @cached_property
    def budgets(self) -> list[BudgetStatus]:
        return reports.statuses(Budget.objects.filter(enabled=True))

    @cached_property
    def provider_ids(self) -> dict[str, int]:
        return dict(Provider.objects.values_list("name", "pk"))

    def has_key(self, reference: str) -> bool:
        if reference not in self._has_key:
            self._has_key[reference] = references.find(reference) is not None
        return self._has_key[reference]

    def page_of(self, provider: str) -> str:
        return reverse("admin:routing_provider_change", args=[self.provider_ids[provider]])


# --- the ledger --------------------------------------------------------------------------------------------------


def _ledger(_: Situation) -> list[Problem]:
    try:
        prove_writable()
    except Error as error:
        if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            return [
                Problem(
                    "The ledger cannot be written: somebody has locked it, and every request waits or is refused with "
                    "503. Find out in pg_stat_activity who does.",
                    is_urgent=True,
                )
            ]
        return [
            Problem(
                f"The ledger cannot be written ({_name(error)}). Until Postgres takes writes again, every request is "
                "refused with 503 and nothing is spent.",
                is_urgent=True,
            )
        ]
    with connection.cursor() as cursor:
        cursor.execute(sql.load("slow_writers"), {"busy_s": BUSY_S})
        writers, longest_s = cursor.fetchone()
    problems = []
    if writers:
        problems.append(
            Problem(
                f"{_count(writers, 'worker')} of the gateway waited for Postgres for up to {longest_s:.0f} s to write "
                "the ledger, and their requests wait too: find out in pg_stat_activity who holds a lock.",
                is_urgent=True,
            )
        )
    overdue = LedgerEntry.objects.filter(
        state=EntryState.HELD, expires_at__lt=Now() - timedelta(seconds=OVERDUE_S)
    ).count()
    if overdue:
        problems.append(
            Problem(
                f"{_count(overdue, 'hold')} should have ended long ago: no worker's ledger writer is at work to expire "
                f"{'it' if overdue == 1 else 'them'}. Restart the gateway.",
                f"{reverse('admin:accounting_ledgerentry_changelist')}?state__exact=held",
                is_urgent=True,
            )
        )
    return problems


def _books(_: Situation) -> list[Problem]:
    last = Reconciliation.objects.that_counts()
    if last is None:
        return [Problem("Nobody has compared the books yet: each start does, and so does `manage.py reconcile`.")]
    if not last.discrepancies:
        return []
    more = f" And {last.discrepancies - 1} more." if last.discrepancies > 1 else ""
    return [
        Problem(
            f"The books were off at {_moment(last.at)}: {last.details[0]}.{more}",
            reverse("admin:accounting_reconciliation_change", args=[last.pk]),
            is_urgent=True,
        )
    ]


def _unknown_entries(_: Situation) -> list[Problem]:
    unknown = LedgerEntry.objects.filter(state=EntryState.UNKNOWN).aggregate(
        entries=Count("pk"), usd=Sum("hold_usd", default=Decimal(0))
    )
    entries = unknown["entries"]
    if not entries:
        return []
    is_one = entries == 1
    return [
        Problem(
            format_html(
                "{} unknown, charged at {} ({}): {} worker died, so find {} on the provider's bill and resolve {}.",
                f"{entries} ledger {'entry is' if is_one else 'entries are'}",
                "its hold" if is_one else "their holds",
                usd(unknown["usd"]),
                "its" if is_one else "their",
                "it" if is_one else "them",
                "it" if is_one else "them",
            ),
            f"{reverse('admin:accounting_ledgerentry_changelist')}?state__exact=unknown",
        )
    ]


def _failures(_: Situation) -> list[Problem]:
    hour = LedgerEntry.objects.filter(created_at__gte=Now() - timedelta(hours=1)).exclude(state=EntryState.HELD)
    found = hour.aggregate(requests=Count("pk"), failed=Count("pk", filter=Q(http_status__gte=500)))
    if not found["failed"] or found["failed"] < FAILING * found["requests"]:
        return []
    codes = (
        hour.filter(http_status__gte=500).values_list("error_code").annotate(requests=Count("pk")).order_by("-requests")
    )
    words = ", ".join(f"{code or 'without a code'} {requests}" for code, requests in codes[:SHOWN])
    failed_today = urlencode({"ended": "failed", "created_at_from": _today()})
    return [
        Problem(
            f"{found['failed']} of the last hour's {_count(found['requests'], 'request')} failed: {words}.",
            f"{reverse('admin:accounting_ledgerentry_changelist')}?{failed_today}",
            is_urgent=found["failed"] == found["requests"],
        )
    ]


def _refusals(_: Situation) -> list[Problem]:
    hour = RefusedRequest.objects.filter(at__gte=Now() - timedelta(hours=1))
    codes = list(hour.values_list("code").annotate(requests=Sum("count")).order_by("-requests", "code"))
    if not codes:
        return []
    requests = sum(number for _, number in codes)
    words = ", ".join(f"{code} {number}" for code, number in codes[:SHOWN])
    return [
        Problem(
            f"{_count(requests, 'request')} of the last hour {'was' if requests == 1 else 'were'} refused: {words}"
            f"{f' and {len(codes) - SHOWN} more codes' if len(codes) > SHOWN else ''}.",
            f"{reverse('admin:accounting_refusedrequest_changelist')}?{urlencode({'at_from': _today()})}",
        )
    ]


# --- budgets -----------------------------------------------------------------------------------------------------


def _budgets(situation: Situation) -> list[Problem]:
    problems = []
    nothing = that_limit_nothing(situation.budgets)
    for status in sorted(situation.budgets, key=used, reverse=True):
        page = reverse("admin:accounting_budget_change", args=[status.budget_id])
        if scope_of(status) in nothing:
            words = "The budget {} limits nothing: there is no {} {}. Name another, or disable the budget."
            problems.append(Problem(format_html(words, status.budget, status.scope, status.scope_value), page))
            continue
        if used(status) < NEARLY:
            continue
        spent = format_html("{} of {} {}", usd(status.posted_usd), usd(status.limit_usd), period_in_words(status))
        reopens = status.resets_at if status.limit_usd else None
        until = f"until {_moment(reopens)}" if reopens else "until its limit is raised"
        is_spent = status.posted_usd >= status.limit_usd
        if is_spent and status.mode == BudgetMode.ALERT:
            text = format_html("The alert budget {} has passed its limit: {}.", status.budget, spent)
        elif is_spent:
            text = format_html("The budget {} is spent: {}. It refuses requests {}.", status.budget, spent, until)
        elif status.held_usd and status.mode == BudgetMode.HARD:
            text = format_html(
                "The budget {} is nearly spent: {}, and {} held by running requests.",
                status.budget,
                spent,
                usd(status.held_usd),
            )
        else:
            text = format_html("The budget {} is nearly spent: {}.", status.budget, spent)
        problems.append(Problem(text, page, is_urgent=is_spent and status.mode != BudgetMode.ALERT))
    return problems


def used(status: BudgetStatus) -> Decimal:
    """The part of the limit that is spent, or held where holds count. A limit of 0 is used up."""
    taken = status.posted_usd + (status.held_usd if status.mode == BudgetMode.HARD else 0)
    return taken / status.limit_usd if status.limit_usd else Decimal(1) + taken


def period_in_words(status: BudgetStatus) -> str:
    return "for ever" if status.period == "total" else f"{'an' if status.period == 'hour' else 'a'} {status.period}"


# --- providers ---------------------------------------------------------------------------------------------------


def _breakers(situation: Situation) -> list[Problem]:
    problems = []
    for breaker in Breaker.objects.filter(state=BreakerState.OPEN).annotate(phase=PHASE).order_by("since"):
        aliases = few(situation.snapshot.aliases_at(breaker.provider, breaker.model))
        hurt = f"Requests for {aliases} skip it" if aliases else "No enabled alias uses it"
        then = {
            "open": f"until {breaker.open_until:%H:%M:%S} UTC, when one of them probes it",
            "probing": "while one of them probes it",
        }.get(breaker.phase, "until one of them probes it")
        problems.append(
            Problem(
                f"The breaker of {breaker.provider} {breaker.model} is {breaker.phase}, since {_moment(breaker.since)} "
                f"(last: {breaker.last_kind}). {hurt}{f' {then}' if aliases else ''}.",
                reverse("admin:routing_breaker_change", args=[breaker.pk]),
            )
        )
    return problems


def _missing_keys(situation: Situation) -> list[Problem]:
    problems = []
    for provider in {step.provider.name: step.provider for step in situation.steps}.values():
        missing = [reference for reference in provider.key_references if not situation.has_key(reference)]
        if not missing:
            continue
        lead = f"{' and '.join(missing)} {'leads' if len(missing) == 1 else 'lead'} to nothing."
        if len(missing) == len(provider.key_references):
            text = (
                f"The provider {provider.name} has no key: {lead} Steps at it are skipped, of "
                f"{few(situation.snapshot.aliases_at(provider.name))}. {_how_to_give(missing[0])}"
            )
        else:
            text = f"The provider {provider.name} has fewer keys than it is given: {lead}"
        problems.append(Problem(text, situation.page_of(provider.name)))
    return problems


def _how_to_give(reference: str) -> str:
    store, _, place = reference.partition(":")
    if store == "env":
        return f"Set {place} where the gateway runs, and start it again."
    return f"Write the key into {place}." if store == "file" else ""


def _refused_keys(situation: Situation) -> list[Problem]:
    in_use = {step.provider.name: step.provider.key_references for step in situation.steps}
    refused = [key for key in reports.refused_keys() if key.key_reference in in_use.get(key.provider, ())]
    of_provider: dict[str, int] = {}
    for key in refused:
        of_provider[key.provider] = of_provider.get(key.provider, 0) + 1
    return [
        Problem(
            f"{key.provider} refused the key {key.key_reference or '(no key)'} at {_moment(key.at)}"
            f"{f' ({key.http_status})' if key.http_status else ''} and has not taken it since: {_shortened(key.error)}",
            situation.page_of(key.provider),
            is_urgent=of_provider[key.provider] == len(in_use[key.provider]),
        )
        for key in refused
    ]


# --- aliases -----------------------------------------------------------------------------------------------------


def _dead_aliases(situation: Situation) -> list[Problem]:
    """Aliases that no step can answer, whatever the breakers say."""

    def can_answer(alias: catalog.Alias) -> bool:
        own = alias.own if wildcards.is_wildcard(alias.name) else situation.snapshot.chain(alias.name)
        return any(
            step.provider.enabled and any(situation.has_key(reference) for reference in step.provider.key_references)
            for step in own
        )

    dead = [alias.name for alias in situation.aliases if not can_answer(alias)]
    if not dead:
        return []
    page = reverse("admin:routing_modelalias_changelist")
    if len(dead) == 1:
        pk = ModelAlias.objects.values_list("pk", flat=True).get(name=dead[0])
        page = reverse("admin:routing_modelalias_change", args=[pk])
    return [
        Problem(
            f"Nobody can answer {few(dead)}: no step of {'its chain' if len(dead) == 1 else 'their chains'} has an "
            "enabled provider with a key.",
            page,
            is_urgent=True,
        )
    ]


def _dead_ends(situation: Situation) -> list[Problem]:
    """Fallbacks that are skipped because an alias or a provider is switched off."""
    aliases = situation.snapshot.aliases
    alias_ids = dict(ModelAlias.objects.values_list("name", "pk"))
    problems = []
    for alias in situation.aliases:
        targets = dict.fromkeys(name for chain in alias.chains.values() for name in chain)
        off = {name: why for name in targets if (why := _why_skipped(aliases.get(name)))}
        if not any(step.provider.enabled for step in alias.own):
            off[alias.name] = "its provider is disabled"
        if off:
            words = "; ".join(f"{name}, as {why}" for name, why in off.items())
            page = reverse("admin:routing_modelalias_change", args=[alias_ids[alias.name]])
            problems.append(Problem(f"The chain of {alias.name} has steps that lead nowhere: {words}.", page))
    return problems


def _why_skipped(target: catalog.Alias | None) -> str:
    if target is None:
        return "there is no such alias"
    if not target.enabled:
        return "the alias is disabled"
    return "" if any(step.provider.enabled for step in target.own) else "its provider is disabled"


def _unpriced(situation: Situation) -> list[Problem]:
    snapshot, now = situation.snapshot, datetime.now(UTC)
    unpriced = {
        (step.alias, step.provider.name, step.deployment.model): None
        for step in situation.steps
        if not wildcards.is_wildcard(step.deployment.model)
        and snapshot.price(step.provider.name, step.deployment.model, now) is None
    }
    may_add = situation.user.has_perm("accounting.add_price")
    page = reverse("admin:accounting_price_add" if may_add else "admin:accounting_price_changelist")
    return [
        Problem(
            f"The alias {alias} is unpriced: nobody has said what {model} costs at {provider}. Hard budgets refuse it.",
            f"{page}?{urlencode({'provider': provider, 'model': model})}" if may_add else page,
        )
        for alias, provider, model in unpriced
    ]


# --- the process -------------------------------------------------------------------------------------------------


def _system_checks(_: Situation) -> list[Problem]:
    """Those of `gateway_project`, which each start prints. They say what is set, so superusers alone see them."""
    messages = system_checks.run_checks(tags=["gateway"], include_deployment_checks=True, databases=["default"])
    return [
        Problem(f"{message.id}: {message.msg} {message.hint or ''}".rstrip(), is_urgent=message.is_serious())
        for message in sorted(messages, key=lambda message: str(message.id))
        if not message.is_silenced()
    ]


CHECKS = (
    Check("the ledger's writers", "the ledger takes writes", ("accounting.view_ledgerentry",), _ledger),
    Check(
        "the books", "the books were right when they were last compared", ("accounting.view_reconciliation",), _books
    ),
    Check(
        "budgets", "every budget has room", ("accounting.view_budget",), _budgets, "admin:accounting_budget_changelist"
    ),
    Check(
        "aliases that nobody can answer",
        "every alias can be answered",
        ("routing.view_modelalias", "routing.view_provider"),
        _dead_aliases,
        "admin:routing_modelalias_changelist",
    ),
    Check(
        "refused provider keys",
        "no provider refuses a key",
        ("routing.view_provider",),
        _refused_keys,
        "admin:routing_provider_changelist",
    ),
    Check(
        "missing provider keys",
        "every provider's key is there",
        ("routing.view_provider",),
        _missing_keys,
        "admin:routing_provider_changelist",
    ),
    Check("failing requests", "few or no requests fail", ("accounting.view_ledgerentry",), _failures),
    Check("refused requests", "nobody was refused in the last hour", ("accounting.view_refusedrequest",), _refusals),
    Check(
        "breakers", "every breaker is closed", ("routing.view_breaker",), _breakers, "admin:routing_breaker_changelist"
    ),
    Check(
        "unpriced aliases",
        "every alias has a price",
        ("routing.view_modelalias", "accounting.view_price"),
        _unpriced,
        "admin:accounting_price_changelist",
    ),
    Check(
        "chains",
        "every chain leads somewhere",
        ("routing.view_modelalias", "routing.view_provider"),
        _dead_ends,
        "admin:routing_modelalias_changelist",
    ),
    Check("unknown entries", "no entry is unknown", ("accounting.view_ledgerentry",), _unknown_entries),
    Check("system checks", "every system check passes", (), _system_checks, superusers_only=True),
)


# --- words -------------------------------------------------------------------------------------------------------


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _shortened(words: str, most: int = 160) -> str:
    words = " ".join(words.split())
    return (words if len(words) <= most else f"{words[:most]}…") or "without a word"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _name(error: Exception) -> str:
    return type(error.__cause__ or error).__name__


def _today() -> str:
    """The first of the days that the last hour touches."""
    return f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%d}"
