"""The base of every specification: frozen, closed, and serializable as JSON."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A choice as data. Unknown fields are refused, so that a misspelt option is never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
