"""How many jobs of an owner are at work at once, and texts that were uploaded by themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Apply the change."""
    op.add_column("jobs", sa.Column("max_running", sa.Integer()))
    op.create_table(
        "uploaded_texts",
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("num_bytes", sa.Integer(), nullable=False),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "sha256", name=op.f("pk_uploaded_texts")),
    )
    op.create_index(op.f("ix_uploaded_texts_uploaded_at"), "uploaded_texts", ["uploaded_at"])


def downgrade() -> None:
    """Undo the change."""
    op.drop_table("uploaded_texts")
    op.drop_column("jobs", "max_running")
