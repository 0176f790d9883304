from decimal import Decimal

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

TOKENS = ("input", "cached_input", "cached_audio_input", "cached_image_input", "cache_write", "cache_write_1h",
          "audio_input", "image_input", "output", "reasoning", "audio_output", "image_output")  # fmt: skip
CHARACTERS = ("input_character", "output_character")
UNITS = ("image", "input_image", "input_second", "output_second", "search", "page", "tool_call")
METERS = (*TOKENS, *CHARACTERS, *UNITS)
TIERS = ("standard", "flex", "priority", "batch")

#: The columns of a price, and the meters that they become. A class without a rate of its own costs what its base costs, and
#: meant in a long context: as the long input. Where the base has a rate and the long context has none, the long one is said.
#: A negative rate, which no form has taken for years, becomes 0: it was never a discount. With the threshold 0, the long
#: context's rates were those of all requests.
COLUMNS_TO_RATES = """
INSERT INTO accounting_pricerate (price_id, meter, qualifier, tier, above_input_tokens, usd_per_unit)
SELECT DISTINCT ON (p.id, r.above, r.place) p.id, r.meter, '', 'standard', r.above, greatest(r.usd, 0)
FROM accounting_price p CROSS JOIN LATERAL (VALUES
    (1, 'input', 0, false, p.input_usd_per_mtok),
    (2, 'cached_input', 0, false, p.cached_input_usd_per_mtok),
    (3, 'cache_write', 0, false, p.cache_write_usd_per_mtok),
    (4, 'cache_write_1h', 0, false, p.cache_write_1h_usd_per_mtok),
    (5, 'audio_input', 0, false, p.audio_input_usd_per_mtok),
    (6, 'output', 0, false, p.output_usd_per_mtok),
    (7, 'reasoning', 0, false, p.reasoning_usd_per_mtok),
    (8, 'audio_output', 0, false, p.audio_output_usd_per_mtok),
    (1, 'input', p.long_context_above_tokens, true, p.long_input_usd_per_mtok),
    (2, 'cached_input', p.long_context_above_tokens, true,
        CASE WHEN p.cached_input_usd_per_mtok IS NULL THEN p.long_cached_input_usd_per_mtok
        ELSE coalesce(p.long_cached_input_usd_per_mtok, p.long_input_usd_per_mtok) END),
    (3, 'cache_write', p.long_context_above_tokens, true,
        CASE WHEN p.cache_write_usd_per_mtok IS NULL THEN p.long_cache_write_usd_per_mtok
        ELSE coalesce(p.long_cache_write_usd_per_mtok, p.long_input_usd_per_mtok) END),
    (4, 'cache_write_1h', p.long_context_above_tokens, true,
        CASE WHEN p.cache_write_1h_usd_per_mtok IS NULL THEN p.long_cache_write_1h_usd_per_mtok
        ELSE coalesce(p.long_cache_write_1h_usd_per_mtok, p.long_cache_write_usd_per_mtok, p.long_input_usd_per_mtok) END),
    (6, 'output', p.long_context_above_tokens, true, p.long_output_usd_per_mtok),
    (7, 'reasoning', p.long_context_above_tokens, true,
        CASE WHEN p.reasoning_usd_per_mtok IS NOT NULL THEN p.long_output_usd_per_mtok END)
) AS r(place, meter, above, is_long, usd)
WHERE r.above IS NOT NULL AND r.usd IS NOT NULL
ORDER BY p.id, r.above, r.place, r.is_long DESC;
SET CONSTRAINTS ALL IMMEDIATE;
"""
#: Columns have room for the standard tier and for its lowest threshold. A price without input and output has no place in them.
RATES_TO_COLUMNS = (
    """
CREATE TEMPORARY TABLE rates ON COMMIT DROP AS SELECT r.*, l.above AS threshold FROM accounting_pricerate r
LEFT JOIN (
    SELECT i.price_id, min(i.above_input_tokens) AS above FROM accounting_pricerate i JOIN accounting_pricerate o
        ON o.price_id = i.price_id AND o.tier = 'standard' AND o.meter = 'output'
        AND o.above_input_tokens = i.above_input_tokens
    WHERE i.tier = 'standard' AND i.meter = 'input' AND i.above_input_tokens > 0 GROUP BY i.price_id
) l ON l.price_id = r.price_id
WHERE r.tier = 'standard' AND r.qualifier = '';
DELETE FROM accounting_pricerate;
SET CONSTRAINTS ALL IMMEDIATE;
DELETE FROM accounting_price p WHERE 2 > (
    SELECT count(*) FROM rates WHERE price_id = p.id AND above_input_tokens = 0 AND meter IN ('input', 'output'));
"""
    + "".join(
        f"UPDATE accounting_price p SET {meter}_usd_per_mtok = r.usd_per_unit FROM rates r"
        f" WHERE r.price_id = p.id AND r.meter = '{meter}' AND r.above_input_tokens = 0;\n"
        for meter in ("input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning", "audio_input",
                      "audio_output")
    )
    + "UPDATE accounting_price p SET long_context_above_tokens = r.threshold, long_input_usd_per_mtok = i.usd_per_unit,"
    " long_output_usd_per_mtok = r.usd_per_unit FROM rates r JOIN rates i"
    " ON i.price_id = r.price_id AND i.meter = 'input' AND i.above_input_tokens = i.threshold"
    " WHERE r.price_id = p.id AND r.meter = 'output' AND r.above_input_tokens = r.threshold;\n"
    + "".join(
        f"UPDATE accounting_price p SET long_{meter}_usd_per_mtok = r.usd_per_unit FROM rates r"
        f" WHERE r.price_id = p.id AND r.meter = '{meter}' AND r.above_input_tokens = r.threshold;\n"
        for meter in ("cached_input", "cache_write", "cache_write_1h")
    )
)  # fmt: skip
REQUIRED = ("input_usd_per_mtok", "output_usd_per_mtok")
OPTIONAL = ("cached_input_usd_per_mtok", "cache_write_usd_per_mtok", "cache_write_1h_usd_per_mtok",
            "reasoning_usd_per_mtok", "audio_input_usd_per_mtok", "audio_output_usd_per_mtok",
            "long_context_above_tokens", "long_input_usd_per_mtok", "long_output_usd_per_mtok",
            "long_cached_input_usd_per_mtok", "long_cache_write_usd_per_mtok",
            "long_cache_write_1h_usd_per_mtok")  # fmt: skip


def worded(meters: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(meter, meter.replace("_", " ")) for meter in meters]


class Migration(migrations.Migration):
    """A price is rows of rates instead of columns. What it costs stays the same to the last digit."""

    dependencies = [("accounting", "0007_quantities")]

    operations = [
        migrations.CreateModel(
            name="PriceRate",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "price",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="rates", to="accounting.price"
                    ),
                ),
                (
                    "meter",
                    models.CharField(
                        choices=[
                            ("USD per million tokens", worded(TOKENS)),
                            ("USD per million characters", worded(CHARACTERS)),
                            ("USD each", worded(UNITS)),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "qualifier",
                    models.CharField(
                        blank=True,
                        help_text="Of images, searches and such: which ones. Empty: all others.",
                        max_length=60,
                    ),
                ),
                (
                    "tier",
                    models.CharField(choices=[(tier, tier) for tier in TIERS], default="standard", max_length=8),
                ),
                (
                    "above_input_tokens",
                    models.PositiveIntegerField(
                        default=0, help_text="For requests with more input tokens than this. 0: for all."
                    ),
                ),
                (
                    "usd_per_unit",
                    models.DecimalField(
                        decimal_places=12,
                        max_digits=20,
                        validators=[django.core.validators.MinValueValidator(Decimal(0))],
                    ),
                ),
            ],
            options={
                "verbose_name": "rate",
                "ordering": ("pk",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("price", "meter", "qualifier", "tier", "above_input_tokens"),
                        name="pricerate_one_a_place",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("usd_per_unit__gte", 0)), name="pricerate_not_negative"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("meter__in", sorted(METERS))), name="pricerate_known_meter"
                    ),
                    models.CheckConstraint(condition=models.Q(("tier__in", list(TIERS))), name="pricerate_known_tier"),
                ],
            },
        ),
        migrations.RunSQL(
            """
            CREATE TRIGGER accounting_live_pricerate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON accounting_pricerate
                FOR EACH STATEMENT EXECUTE FUNCTION accounting_bump_configuration_version();
            """,
            migrations.RunSQL.noop,  # gone with its table
        ),
        migrations.RemoveConstraint("price", "price_long_context_complete"),
        # Empty on the way back until the rates are copied.
        *(
            migrations.AlterField("price", name, models.DecimalField(decimal_places=12, max_digits=20, null=True))
            for name in REQUIRED
        ),
        migrations.RunSQL(COLUMNS_TO_RATES, RATES_TO_COLUMNS),
        *(migrations.RemoveField("price", name) for name in (*REQUIRED, *OPTIONAL)),
    ]
