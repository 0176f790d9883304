"""An alias without an output cap has its model's own maximum. Caps that are set stay."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("routing", "0008_names_and_parameters")]

    operations = [
        migrations.AlterField(
            model_name="modelalias",
            name="output_cap_tokens",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Empty: the model's own maximum, less where a hard budget is small. Sent upstream when the "
                "client sets no limit, and what a hold counts with.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
    ]
