from django.db import migrations


def create_primary(apps, schema_editor):
    """Anthropic itself, called with the client's own credentials, comes first."""
    provider = apps.get_model("providers", "Provider")
    provider.objects.get_or_create(
        name="anthropic-primary",
        defaults={
            "position": 0,
            "base_url": "https://api.anthropic.com",
            "format": "anthropic",
            "credentials": "client",
        },
    )
    apps.get_model("providers", "ConfigurationVersion").objects.get_or_create(
        pk=1, defaults={"number": 1}
    )


class Migration(migrations.Migration):
    dependencies = [("providers", "0001_initial")]
    operations = [migrations.RunPython(create_primary, migrations.RunPython.noop)]
