"""Workers that the operator keeps from taking jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "set_apart",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_set_apart")),
    )


def downgrade() -> None:
    """Undo the change."""
    op.drop_table("set_apart")
