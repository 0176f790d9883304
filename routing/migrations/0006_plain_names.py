"""Models get the names of what they are: a breaker, its state, a further deployment, a fallback.

Tables keep their names, so that workers of the old version run beside new ones while a deployment rolls. Permissions
that operators were given go along: Django renames content types with their models, but not the permissions' codenames.
"""

import django.db.models.deletion
from django.db import migrations, models

RENAMED = {"breakerstate": "breaker", "deployment": "furtherdeployment", "fallbackstep": "fallback"}
WORDS = {"breaker": "breaker", "furtherdeployment": "further deployment", "fallback": "fallback"}


def rename_permissions(apps, schema_editor):
    _rename_permissions(apps, RENAMED)


def rename_permissions_back(apps, schema_editor):
    _rename_permissions(apps, {new: old for old, new in RENAMED.items()})


def _rename_permissions(apps, names):
    permissions = apps.get_model("auth", "Permission").objects.filter(content_type__app_label="routing")
    for before, after in names.items():
        for action in ("add", "change", "delete", "view"):
            permissions.filter(codename=f"{action}_{before}").update(
                codename=f"{action}_{after}", name=f"Can {action} {WORDS.get(after, after)}"
            )


class Migration(migrations.Migration):

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("routing", "0005_provider_keys_and_weights"),
    ]

    operations = [
        # The table's name is said first; it is what it was, and a rename of the model then leaves it alone.
        migrations.AlterModelTable("BreakerState", "routing_breakerstate"),
        migrations.AlterModelTable("Deployment", "routing_deployment"),
        migrations.AlterModelTable("FallbackStep", "routing_fallbackstep"),
        migrations.RenameModel("BreakerState", "Breaker"),
        migrations.RenameModel("Deployment", "FurtherDeployment"),
        migrations.RenameModel("FallbackStep", "Fallback"),
        migrations.AlterModelOptions("Breaker", {"ordering": ("-state", "-since")}),
        migrations.AlterModelOptions(
            "Fallback", {"ordering": ("alias", "kind", "position"), "verbose_name": "fallback"}
        ),
        migrations.AlterField(
            model_name="fallback",
            name="alias",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="fallbacks", to="routing.modelalias"
            ),
        ),
        migrations.RunPython(rename_permissions, rename_permissions_back),
    ]
