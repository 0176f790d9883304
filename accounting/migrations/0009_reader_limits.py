from django.db import migrations

from accounting.sql import load_frozen


class Migration(migrations.Migration):
    """Readers of reports cannot stop the ledger. On the way back the rights stay as they are: nothing needs them."""

    dependencies = [("accounting", "0008_price_rates")]

    operations = [migrations.RunSQL(load_frozen("0009_reader_limits"), migrations.RunSQL.noop)]
