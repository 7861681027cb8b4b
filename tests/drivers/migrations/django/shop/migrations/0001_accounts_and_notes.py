from django.db import migrations, models


def fill_in(apps, schema_editor):
    account, note = apps.get_model("shop", "Account"), apps.get_model("shop", "Note")
    accounts = [account.objects.create(email=f"user{n}@example.com") for n in range(20)]
    note.objects.bulk_create(note(account=accounts[n % 20], body="n" * n) for n in range(1, 61))


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Account",
            [("id", models.AutoField(primary_key=True)), ("email", models.TextField(unique=True))],
            options={"db_table": "accounts"},
        ),
        migrations.CreateModel(
            "Note",
            [
                ("id", models.AutoField(primary_key=True)),
                ("account", models.ForeignKey("shop.Account", models.CASCADE)),
                ("body", models.TextField()),
            ],
            options={"db_table": "notes"},
        ),
        migrations.RunPython(fill_in),
    ]
