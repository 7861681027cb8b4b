import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade():
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("email", sa.Text, nullable=False, unique=True),
    )
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("account_id", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.execute("insert into accounts (email) select 'user' || n || '@example.com' from generate_series(1, 20) n")
    op.execute("insert into notes (account_id, body) select 1 + n % 20, repeat('n', n) from generate_series(1, 60) n")
