from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("shop", "0002_stars_and_tags")]
    operations = [AddIndexConcurrently("Note", models.Index(fields=["stars"], name="notes_stars"))]
