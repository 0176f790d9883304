"""What models cost, from when on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from django.core.validators import MinValueValidator
from django.db import models, transaction
from django.db.models import OuterRef, Q, Subquery

from accounting.models import fields
from accounting.pricing import PriceList, Rate
from accounting.usage import Meter, Tier

_USD_PER_MTOK = "_usd_per_mtok"


class PriceQuerySet(models.QuerySet["Price"]):
    def in_force(self, at: datetime) -> Self:
        """Of each provider's model the price that counts at that moment."""
        return (
            self.filter(effective_from__lte=at)
            .order_by("provider", "model", "-effective_from")
            .distinct("provider", "model")
        )

    def dated(self) -> Mapping[tuple[str, str], tuple[tuple[datetime, PriceList], ...]]:
        """All prices as pure values, by provider and model, newest first."""
        rates: dict[int, list[Rate]] = {}
        for price_id, meter, usd, qualifier, tier, above in PriceRate.objects.order_by("pk").values_list(
            "price_id", "meter", "usd_per_unit", "qualifier", "tier", "above_input_tokens"
        ):
            rates.setdefault(price_id, []).append(Rate(Meter(meter), usd, qualifier, Tier(tier), above))
        dated: dict[tuple[str, str], list[tuple[datetime, PriceList]]] = {}
        for pk, provider, model, since in self.order_by("-effective_from").values_list(
            "pk", "provider", "model", "effective_from"
        ):
            dated.setdefault((provider, model), []).append((since, PriceList(tuple(rates.get(pk, ())))))
        return {model: tuple(prices) for model, prices in dated.items()}

    def with_token_rates(self) -> Self:
        """With ``input_usd``, ``output_usd`` and ``cached_input_usd``, a million in the standard tier."""
        rates = PriceRate.objects.filter(price=OuterRef("pk"), tier=Tier.STANDARD, above_input_tokens=0, qualifier="")
        return self.annotate(
            **{
                f"{meter.value}_usd": Subquery(rates.filter(meter=meter).values("usd_per_unit")[:1])
                for meter in (Meter.INPUT, Meter.OUTPUT, Meter.CACHED_INPUT)
            }
        )

    @transaction.atomic
    def create(self, **fields: Any) -> Price:
        """Write a price and, in the same transaction, its plain rates: ``input_usd_per_mtok``, ``output_usd_per_mtok``
        and those of the other meters of tokens, of the standard tier and without a threshold.

        So a script writes the price that most models have in one line. All other prices are written by :meth:`add`.
        """
        named = {name: fields.pop(name) for name in list(fields) if name.endswith(_USD_PER_MTOK)}
        rates = [(Meter(name.removesuffix(_USD_PER_MTOK)), usd) for name, usd in named.items() if usd is not None]
        if unnamed := [meter.value for meter, _ in rates if not meter.is_tokens]:
            raise ValueError(f"{unnamed[0]} is not billed by the million of tokens")
        price = super().create(**fields)
        PriceRate.objects.bulk_create(PriceRate(price=price, meter=meter, usd_per_unit=usd) for meter, usd in rates)
        return price

    def add(self, provider: str, model: str, effective_from: datetime, prices: PriceList, source: str) -> Price:
        """Write a price and its rates, to the places that the database keeps."""
        (price,) = self.add_all([(provider, model, prices, source)], effective_from)
        return price

    @transaction.atomic
    def add_all(self, rows: Iterable[tuple[str, str, PriceList, str]], effective_from: datetime) -> list[Price]:
        """Write many prices (provider, model, price, source) in two statements."""
        priced = [
            (Price(provider=provider, model=model, effective_from=effective_from, source=source), prices)
            for provider, model, prices, source in rows
        ]
        self.bulk_create([price for price, _ in priced])
        PriceRate.objects.bulk_create(
            PriceRate(
                price=price,
                meter=rate.meter,
                qualifier=rate.qualifier,
                tier=rate.tier,
                above_input_tokens=rate.above_input_tokens,
                usd_per_unit=rate.usd_per_unit,
            )
            for price, prices in priced
            for rate in prices.rounded().rates
        )
        return [price for price, _ in priced]


class Price(models.Model):
    """What a provider charges for a model from a moment on: a set of rates."""

    provider = models.CharField(max_length=100, help_text="The provider's name, as under Routing, Providers.")
    model = models.CharField(max_length=200, help_text="The model's name at the provider.")
    effective_from = models.DateTimeField()
    source = models.CharField(max_length=100, default="operator", help_text="Where the price was taken from.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PriceQuerySet.as_manager()

    class Meta:
        ordering = ("provider", "model", "-effective_from")
        constraints = (
            models.UniqueConstraint(fields=("provider", "model", "effective_from"), name="price_one_a_moment"),
        )

    def __str__(self) -> str:
        return f"{self.provider} {self.model} from {self.effective_from:%Y-%m-%d}"

    def price_list(self) -> PriceList:
        """The row and its rates as the pure value that ``accounting.pricing`` computes with."""
        return PriceList(
            tuple(
                Rate(Meter(row.meter), row.usd_per_unit, row.qualifier, Tier(row.tier), row.above_input_tokens)
                for row in self.rates.all()
            )
        )

    @property
    def input_usd_per_mtok(self) -> Decimal | None:
        """What a million input tokens cost in the standard tier, without a threshold; None: the price has no such
        rate."""
        return self._plain_usd(Meter.INPUT)

    @property
    def output_usd_per_mtok(self) -> Decimal | None:
        """The same of output tokens."""
        return self._plain_usd(Meter.OUTPUT)

    def _plain_usd(self, meter: Meter) -> Decimal | None:
        # From all rates, so that one query, or none after a prefetch, answers for both.
        place = Rate(meter, Decimal(0)).place
        return next((rate.usd_per_unit for rate in self.price_list().rates if rate.place == place), None)


METERS = [
    (
        "USD per million tokens",
        [(meter.value, meter.value.replace("_", " ")) for meter in Meter if meter.is_tokens],
    ),
    (
        "USD per million characters",
        [(meter.value, meter.value.replace("_", " ")) for meter in (Meter.INPUT_CHARACTER, Meter.OUTPUT_CHARACTER)],
    ),
    ("USD each", [(meter.value, meter.value.replace("_", " ")) for meter in Meter if meter.unit_size == 1]),
]


class PriceRate(models.Model):
    """What a unit of a meter costs: USD per million of tokens and characters, USD each of everything else."""

    price = models.ForeignKey(Price, on_delete=models.CASCADE, related_name="rates")
    meter = models.CharField(max_length=20, choices=METERS)
    qualifier = models.CharField(
        max_length=60, blank=True, help_text="Of images, searches and such: which ones. Empty: all others."
    )
    tier = models.CharField(
        max_length=8, choices=[(tier.value, tier.value) for tier in Tier], default=Tier.STANDARD.value
    )
    above_input_tokens = models.PositiveIntegerField(
        default=0, help_text="For requests with more input tokens than this. 0: for all."
    )
    usd_per_unit = fields.usd(validators=[MinValueValidator(Decimal(0))])

    class Meta:
        verbose_name = "rate"
        ordering = ("pk",)
        constraints = (
            models.UniqueConstraint(
                fields=("price", "meter", "qualifier", "tier", "above_input_tokens"), name="pricerate_one_a_place"
            ),
            models.CheckConstraint(condition=Q(usd_per_unit__gte=0), name="pricerate_not_negative"),
            models.CheckConstraint(
                condition=Q(meter__in=sorted(meter.value for meter in Meter)), name="pricerate_known_meter"
            ),
            models.CheckConstraint(condition=Q(tier__in=[tier.value for tier in Tier]), name="pricerate_known_tier"),
        )

    def __str__(self) -> str:
        return f"{self.meter}: {self.usd_per_unit}"
