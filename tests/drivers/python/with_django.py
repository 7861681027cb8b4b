"""Everyday work of Django's ORM, as two tenants at once."""

import io
import os
import re
import threading
import traceback
import uuid
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command

import stand
from stand import SIDES, check


def database(side):
    url = urlsplit(side.url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path[1:],
        "HOST": url.hostname,
        "PORT": url.port,
        "USER": url.username,
        "PASSWORD": url.password,
        "CONN_MAX_AGE": None,
        "TIME_ZONE": "Africa/Algiers",
        "OPTIONS": {"server_side_binding": side.name == "a"},
    }


databases = {side.name: database(side) for side in SIDES}
settings.configure(DATABASES={"default": databases["a"], **databases}, USE_TZ=True, TIME_ZONE="Europe/Paris")
django.setup()

from django.db import DatabaseError, IntegrityError, connections, models, transaction  # noqa: E402


class Lead(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    full_name = models.TextField()
    email = models.TextField()
    status = models.TextField(db_default="new")
    created_at = models.DateTimeField(db_default=models.functions.Now())

    class Meta:
        app_label = "drivers"
        db_table = "crm_leads"
        managed = False


class Project(models.Model):
    id = models.UUIDField(primary_key=True)
    tenant_id = models.UUIDField()
    name = models.TextField()

    class Meta:
        app_label = "drivers"
        db_table = "projects"
        managed = False


def everyday(side):
    own, leads, projects = uuid.UUID(side.own), Lead.objects.using(side.name), Project.objects.using(side.name)

    def zone():
        with connections[side.name].cursor() as cursor:
            cursor.execute("select current_setting('timezone')")
            return cursor.fetchone()[0]

    for n in range(10):
        check("its own rows", set(projects.values_list("tenant_id", flat=True)), {own})
        check("the time zone of the connection", zone(), "Africa/Algiers")
        with transaction.atomic(using=side.name):
            lead = leads.create(full_name=side.name, email=f"{n}@django.example.org")
            try:
                with transaction.atomic(using=side.name):
                    leads.create(full_name="x", email=f"{n}@django.example.org")
                check("a unique violation", "accepted", "refused")
            except IntegrityError:
                pass
            leads.filter(pk=lead.pk).update(status="won")
        check("a committed row", leads.get(email=f"{n}@django.example.org").status, "won")
        try:
            with transaction.atomic(using=side.name):
                leads.all().delete()
                raise ZeroDivisionError
        except ZeroDivisionError:
            check("a rollback", leads.filter(pk=lead.pk).exists(), True)
        lead.delete(using=side.name)
    leads.bulk_create(Lead(full_name="bulk", email=f"bulk{n}@django.example.org") for n in range(200))
    with transaction.atomic(using=side.name):
        rows = list(leads.filter(full_name="bulk").iterator(chunk_size=20))
        check("iterator() in a transaction", len(rows), 200)
    try:
        rows = list(leads.filter(full_name="bulk").iterator(chunk_size=20))
        check("iterator() outside one, by a cursor WITH HOLD", (len(rows), stand.TRANSACTION), (200, False))
    except DatabaseError as error:
        check("iterator() outside one", error.__cause__.sqlstate, "0A000")
    check("deleted", leads.filter(full_name="bulk").delete()[0], 200)
    connections[side.name].close()


def introspection(side):
    """What Django asks of the catalogue, of every table, on a hardened database."""
    written = io.StringIO()
    call_command("inspectdb", database=side.name, include_views=True, stdout=written)
    for table in ("projects", "crm_leads", "crm_deals", "tenants"):
        check(f"inspectdb on {table}", f"db_table = '{table}'" in written.getvalue(), True)
    # That one is closed to tenants: its class is global.
    unread = re.findall("# Unable to inspect table '(.*)'", written.getvalue())
    # Rails keeps some in the same database meanwhile, and tenants may not read them either.
    of_rails = ("active_record_", "ar_internal_metadata", "schema_migrations")
    check(
        "what inspectdb could not read",
        [table for table in unread if not table.startswith(of_rails)],
        ["internal_notes"],
    )
    connection = connections[side.name]
    with connection.cursor() as cursor:
        for table in connection.introspection.get_table_list(cursor):
            constraints = connection.introspection.get_constraints(cursor, table.name)
            check(f"the key of {table.name}", table.type == "v" or any(c["primary_key"] for c in constraints.values()), True)
            connection.introspection.get_sequences(cursor, table.name)


def guarded(side):
    try:
        introspection(side)
        everyday(side)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


threads = [threading.Thread(target=guarded, args=(side,)) for side in SIDES]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
stand.finish()
