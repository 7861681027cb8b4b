import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade():
    op.add_column("notes", sa.Column("stars", sa.Integer, nullable=False, server_default="0"))
    notes = sa.table("notes", sa.column("id"), sa.column("body"), sa.column("stars"))
    op.execute(notes.update().values(stars=sa.func.length(notes.c.body)))
    tags = op.create_table(
        "tags",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("note_id", sa.Integer, sa.ForeignKey("notes.id"), nullable=False),
        sa.Column("word", sa.Text, nullable=False),
    )
    rows = op.get_bind().execute(sa.select(notes.c.id)).scalars()
    op.bulk_insert(tags, [{"note_id": row, "word": "old"} for row in rows])
