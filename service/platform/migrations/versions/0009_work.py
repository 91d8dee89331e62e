"""A job is an envelope around its work: one JSON column, a kind, and the version of both."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_FLAT = ("source", "destination", "recipe", "calibration", "evaluation")
_BATCH = 500


def upgrade() -> None:
    """Apply the change."""
    op.add_column("jobs", sa.Column("kind", sa.String(length=32), nullable=False, server_default="compress"))
    op.add_column("jobs", sa.Column("work", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("jobs", sa.Column("schema_version", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("job_events", sa.Column("schema_version", sa.Integer(), nullable=False, server_default="1"))
    _rewrite(_with_work)
    for name in (*_FLAT, "acknowledge_license"):
        op.drop_column("jobs", name)
    op.create_index(op.f("ix_jobs_kind_id"), "jobs", ["kind", "id"], unique=False)


def downgrade() -> None:
    """Undo the change. Only compressions can be kept; a job of another kind ends it."""
    op.drop_index(op.f("ix_jobs_kind_id"), table_name="jobs")
    for name in ("source", "destination", "recipe"):
        op.add_column("jobs", sa.Column(name, sa.JSON(), nullable=False, server_default="{}"))
    for name in ("calibration", "evaluation"):
        op.add_column("jobs", sa.Column(name, sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("acknowledge_license", sa.Boolean(), server_default=sa.false(), nullable=False))
    _rewrite(_flat)
    for name in ("schema_version", "work", "kind"):
        op.drop_column("jobs", name)
    op.drop_column("job_events", "schema_version")


_jobs = sa.table(
    "jobs",
    sa.column("id", sa.String),
    sa.column("work", sa.JSON),
    sa.column("schema_version", sa.Integer),
    sa.column("acknowledge_license", sa.Boolean),
    *(sa.column(name, sa.JSON(none_as_null=True)) for name in _FLAT),
)


def _rewrite(change: Any) -> None:
    connection, last = op.get_bind(), ""
    while True:
        page = sa.select(_jobs).where(_jobs.c.id > last).order_by(_jobs.c.id).limit(_BATCH)
        rows = connection.execute(page).all()
        for row in rows:
            connection.execute(sa.update(_jobs).where(_jobs.c.id == row.id).values(change(row)))
        if len(rows) < _BATCH:
            return
        last = rows[-1].id


def _with_work(row: Any) -> dict[str, Any]:
    work = {name: getattr(row, name) for name in _FLAT}
    return {
        "work": {"kind": "compress", **work, "acknowledge_license": row.acknowledge_license},
        "schema_version": 2,
    }


def _flat(row: Any) -> dict[str, Any]:
    if row.work.get("kind") != "compress":
        raise ValueError(f"job {row.id} is a {row.work.get('kind')!r}, which the version before cannot hold; delete it")
    flat = {name: row.work.get(name) for name in _FLAT}
    return {**flat, "acknowledge_license": row.work.get("acknowledge_license", False)}
