from django.db import migrations, models
from django.db.models.functions import Length


def fill_in(apps, schema_editor):
    note, tag = apps.get_model("shop", "Note"), apps.get_model("shop", "Tag")
    note.objects.update(stars=Length("body"))
    tag.objects.bulk_create(tag(note=one, word="old") for one in note.objects.all())


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_accounts_and_notes")]
    operations = [
        migrations.AddField("Note", "stars", models.IntegerField(default=0)),
        migrations.CreateModel(
            "Tag",
            [
                ("id", models.AutoField(primary_key=True)),
                ("note", models.ForeignKey("shop.Note", models.CASCADE)),
                ("word", models.TextField()),
            ],
            options={"db_table": "tags"},
        ),
        migrations.RunPython(fill_in),
    ]
