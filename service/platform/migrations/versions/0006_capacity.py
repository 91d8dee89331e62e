"""What workers can hold, and what a job was submitted with."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply the change."""
    op.add_column("jobs", sa.Column("acknowledge_license", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("jobs", sa.Column("brought_token", sa.Boolean(), server_default=sa.false(), nullable=False))
    with op.batch_alter_table("workers") as workers:
        workers.alter_column("device", existing_type=sa.String(length=16), type_=sa.String(length=128))
        workers.add_column(sa.Column("device_memory_bytes", sa.BigInteger(), nullable=True))
        workers.add_column(sa.Column("host_memory_bytes", sa.BigInteger(), nullable=True))
        workers.add_column(sa.Column("scratch_bytes", sa.BigInteger(), nullable=True))
        workers.add_column(sa.Column("operations_per_second", sa.Float(), nullable=True))
        workers.add_column(sa.Column("has_hub_token", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Undo the change."""
    with op.batch_alter_table("workers") as workers:
        workers.drop_column("has_hub_token")
        workers.drop_column("operations_per_second")
        workers.drop_column("scratch_bytes")
        workers.drop_column("host_memory_bytes")
        workers.drop_column("device_memory_bytes")
        workers.alter_column("device", existing_type=sa.String(length=128), type_=sa.String(length=16))
    op.drop_column("jobs", "brought_token")
    op.drop_column("jobs", "acknowledge_license")
