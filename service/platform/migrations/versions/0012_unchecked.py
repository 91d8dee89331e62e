"""What could not be checked when a job was submitted."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Apply the change."""
    op.add_column("jobs", sa.Column("unchecked", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    """Undo the change."""
    op.drop_column("jobs", "unchecked")
