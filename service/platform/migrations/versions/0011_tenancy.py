"""Where the worker's Hub token is lent, and who published what: the owner of the latest job that succeeded there."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_jobs = sa.table(
    "jobs",
    sa.column("id", sa.String),
    sa.column("owner", sa.String),
    sa.column("state", sa.String),
    sa.column("destination_repo_id", sa.String),
    sa.column("finished_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "lent_namespaces",
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("namespace", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint("owner", "namespace", name=op.f("pk_lent_namespaces")),
    )
    publications = op.create_table(
        "publications",
        sa.Column("repo_id", sa.String(length=128), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("repo_id", name=op.f("pk_publications")),
    )
    has_place = (_jobs.c.finished_at.is_not(None), _jobs.c.destination_repo_id != "")  # an evaluation may have none
    published = sa.select(_jobs).where(_jobs.c.state == "succeeded", *has_place)
    latest = {
        row.destination_repo_id.lower(): {"owner": row.owner, "published_at": row.finished_at}
        for row in op.get_bind().execute(published.order_by(_jobs.c.finished_at, _jobs.c.id))
    }
    if latest:
        op.bulk_insert(publications, [{"repo_id": repo_id, **values} for repo_id, values in latest.items()])


def downgrade() -> None:
    """Undo the change."""
    op.drop_table("publications")
    op.drop_table("lent_namespaces")
