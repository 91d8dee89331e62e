"""Problem documents (RFC 9457) as values."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from service.platform.text import clean

CleanText = Annotated[str, AfterValidator(clean)]
"""Words of ours with words of strangers in them."""


class ProblemField(BaseModel):
    """One wrong field of a request."""

    field: CleanText = Field(description="Dotted path, for instance `body.source.model_id`.")
    message: CleanText
    code: str | None = Field(default=None, description="Where there are several obstacles: the code of each.")


class Problem(BaseModel):
    """RFC 9457 problem details, sent as `application/problem+json` with every error."""

    type: str
    title: str
    status: int
    detail: CleanText
    instance: str
    code: str = Field(description="Stable, for programs.")
    request_id: str | None = None
    errors: list[ProblemField] = Field(default_factory=list)
