"""What keeps a worker from taking jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Apply the change."""
    op.add_column("workers", sa.Column("trouble", sa.String(length=400), nullable=True))


def downgrade() -> None:
    """Undo the change."""
    op.drop_column("workers", "trouble")
