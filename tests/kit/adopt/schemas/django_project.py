"""A Django project with auth, admin and sessions: migrated and filled in, and migrated once more."""

import sys

import django
from django.conf import settings
from django.core.management import call_command

verb, host, name, user = sys.argv[1:]
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "HOST": host, "NAME": name, "USER": user}},
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.admin",
        "django.contrib.sessions",
        "django.contrib.sites",
    ],
    SECRET_KEY="for a test",
    SITE_ID=1,
    USE_TZ=True,
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
)
django.setup()

from django.contrib.admin.models import CHANGE, LogEntry  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.db import connection, models  # noqa: E402


def fill_in():
    call_command("migrate", verbosity=0)
    groups = [Group.objects.create(name=f"group{n}") for n in range(5)]
    groups[0].permissions.add(*Permission.objects.all()[:3])
    for n in range(50):
        person = User.objects.create_user(f"user{n}", f"user{n}@example.com", "secret")
        person.groups.add(*groups[: n % 5])
        person.user_permissions.add(*Permission.objects.all()[: n % 4])
        LogEntry.objects.create(
            user=person, content_type=ContentType.objects.first(), object_id=str(n), action_flag=CHANGE
        )
    for n in range(20):
        session = SessionStore()
        session["n"] = n
        session.create()


class Note(models.Model):
    author = models.ForeignKey(User, on_delete=models.CASCADE, db_constraint=False)
    text = models.TextField()

    class Meta:
        app_label = "notes"
        db_table = "notes_note"


class TenantNote(models.Model):
    tenant_id = models.UUIDField()
    text = models.TextField()

    class Meta:
        app_label = "notes"
        db_table = "notes_tenantnote"


def migrate_again():
    """As an owner's session through the pool: nothing left to migrate, then two tables more."""
    call_command("migrate", verbosity=0)
    call_command("migrate", verbosity=0, check_unapplied=True)
    with connection.schema_editor() as editor:
        editor.create_model(Note)
        editor.create_model(TenantNote)


def as_tenant(slug):
    """The ORM as it is, in a session that is bound to a tenant."""
    with connection.cursor() as cursor:
        cursor.execute("select cloison.set_tenant(id) from cloison.tenants where slug = %s", [slug])
    person = User.objects.create_user("user1", "other@example.com", "secret")
    person.groups.add(Group.objects.create(name="group1"))
    assert person.groups.count() == 1
    assert User.objects.filter(username="user1").count() == 2, "the owner sees both"
    with connection.cursor() as cursor:
        cursor.execute("select count(distinct tenant_id) from auth_user where username = 'user1'")
        assert cursor.fetchone() == (2,)


{"fill_in": fill_in, "migrate_again": migrate_again, "second": lambda: as_tenant("second")}[verb]()
