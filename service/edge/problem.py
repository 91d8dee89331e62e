"""Problem documents (RFC 9457) as values."""

from pydantic import BaseModel, Field


class ProblemField(BaseModel):
    """One wrong field of a request."""

    field: str = Field(description="Dotted path, for instance `body.source.model_id`.")
    message: str
    code: str | None = Field(default=None, description="Where there are several obstacles: the code of each.")


class Problem(BaseModel):
    """RFC 9457 problem details, sent as `application/problem+json` with every error."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable, for programs.")
    request_id: str | None = None
    errors: list[ProblemField] = Field(default_factory=list)
