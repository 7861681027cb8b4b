"""Alembic, up to a migration."""

import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

config = Config()
config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg://")
config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
last = sys.argv[1]
command.upgrade(config, last)
if last == "4":
    # There and back, as one does while writing it.
    command.downgrade(config, "-1")
    command.upgrade(config, "head")
