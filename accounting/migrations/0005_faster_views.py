from django.db import migrations

from accounting import sql


class Migration(migrations.Migration):
    """The views as they are now, for databases that were made with earlier ones; and the role's rights on them."""

    dependencies = [("accounting", "0004_budget_gaps")]

    operations = [
        migrations.RunSQL(sql.load("views"), migrations.RunSQL.noop),
        migrations.RunSQL(sql.load("reader_role"), migrations.RunSQL.noop),
    ]
