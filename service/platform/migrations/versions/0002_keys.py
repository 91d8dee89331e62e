"""API keys, and one job for the same work."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SAME_WORK = sa.text("content_key IS NOT NULL AND state IN ('queued', 'running', 'publishing', 'succeeded')")
HAS_KEY = sa.text("content_key IS NOT NULL")


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("quota", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_owner"), "api_keys", ["owner"], unique=False)
    op.drop_index(op.f("ix_jobs_content_key"), table_name="jobs")
    op.create_index(op.f("ix_jobs_owner_finished_at"), "jobs", ["owner", "finished_at"], unique=False)
    op.create_index(op.f("ix_jobs_owner_state"), "jobs", ["owner", "state"], unique=False)
    op.create_index(
        "ux_jobs_same_work",
        "jobs",
        ["owner", "content_key"],
        unique=True,
        sqlite_where=SAME_WORK,
        postgresql_where=SAME_WORK,
    )


def downgrade() -> None:
    """Undo the change."""
    op.drop_index("ux_jobs_same_work", table_name="jobs")
    op.drop_index(op.f("ix_jobs_owner_state"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_owner_finished_at"), table_name="jobs")
    op.create_index(
        op.f("ix_jobs_content_key"),
        "jobs",
        ["content_key"],
        unique=False,
        sqlite_where=HAS_KEY,
        postgresql_where=HAS_KEY,
    )
    op.drop_index(op.f("ix_api_keys_owner"), table_name="api_keys")
    op.drop_table("api_keys")
