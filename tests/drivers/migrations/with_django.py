"""Django's migrations, up to one of them."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command

sys.path.insert(0, str(Path(__file__).parent / "django"))
url = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path[1:],
            "HOST": url.hostname,
            "PORT": url.port,
            "USER": url.username,
            "PASSWORD": url.password,
        }
    },
    INSTALLED_APPS=["shop"],
)
django.setup()
last = sys.argv[1]
call_command("migrate", "shop", last.zfill(4), verbosity=0)
if last == "4":
    call_command("migrate", "shop", "0003", verbosity=0)
    call_command("migrate", verbosity=0)
    call_command("migrate", check_unapplied=True, verbosity=0)
