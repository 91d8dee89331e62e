"""When a watch is polled next, why the last poll failed, and how far an interrupted sweep has come."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply the change."""
    op.add_column("watches", sa.Column("next_poll_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("watches", sa.Column("poll_failures", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("watches", sa.Column("poll_error", sa.String(length=400), nullable=True))
    op.add_column("watches", sa.Column("sweep_began_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("watches", sa.Column("swept_to", sa.String(length=128), nullable=True))


def downgrade() -> None:
    """Undo the change."""
    for name in ("swept_to", "sweep_began_at", "poll_error", "poll_failures", "next_poll_at"):
        op.drop_column("watches", name)
