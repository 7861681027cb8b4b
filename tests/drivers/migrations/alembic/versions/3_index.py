from alembic import op

revision = "3"
down_revision = "2"


def upgrade():
    with op.get_context().autocommit_block():
        op.create_index("notes_stars", "notes", ["stars"], postgresql_concurrently=True)
