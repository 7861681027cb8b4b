from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0003_index")]
    operations = [
        migrations.CreateModel(
            "Mark",
            [
                ("id", models.AutoField(primary_key=True)),
                ("tenant_id", models.UUIDField()),
                ("word", models.TextField()),
            ],
            options={"db_table": "marks"},
        ),
    ]
