"""The submit form as a page: empty, filled in, checked, or with what is wrong beside each field."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette import status
from starlette.requests import Request
from starlette.responses import Response

from service.accounts.errors import HubAccessEndedError
from service.api.callers import Caller
from service.api.dependencies import Services
from service.api.model_schemas import Validation
from service.web.forms import FormError, chosen_recipe, default_destination
from service.web.hub_access import brings_hub_access
from service.web.rendering import Pages
from service.web.sign_in import account_sign_in_url
from srr_core.recipe import DEFAULT_RECIPE, PRESETS

PREVIEW_SHAPE = (4096, 4096)
"""The layer whose bits per weight the preview tells: the attention of a 7B model, for instance."""


@dataclass(frozen=True)
class FormPage:
    """Shows the form to one visitor."""

    request: Request
    pages: Pages
    caller: Caller
    services: Services

    def show(self, values: dict[str, str], *, validation: Validation | None = None) -> Response:
        """Return the page with what was typed."""
        return self._render(values, validation=validation)

    def refuse(self, values: dict[str, str], error: Exception) -> Response:
        """Return the page with what was typed and what is wrong with it."""
        again = None
        if isinstance(error, HubAccessEndedError):
            typed = urlencode({name: value for name, value in values.items() if value})
            again = account_sign_in_url(self.services, f"/?{typed}")
        return self._render(
            values, status=status.HTTP_422_UNPROCESSABLE_CONTENT, messages=messages_of(error), sign_in_again=again
        )

    def _render(
        self,
        values: dict[str, str],
        *,
        status: int = status.HTTP_200_OK,
        messages: dict[str, str] | None = None,
        validation: Validation | None = None,
        sign_in_again: str | None = None,
    ) -> Response:
        values["recipe"] = values["recipe"] if values["recipe"] in PRESETS else DEFAULT_RECIPE
        return self.pages.render(
            self.request,
            "submit.html",
            status=status,
            values=values,
            messages=messages or {},
            recipes=PRESETS.values(),
            validation=validation,
            sign_in_again=sign_in_again,
            has_hub_access=brings_hub_access(self.caller, self.services),
            **preview_of(values),
        )


def messages_of(error: Exception) -> dict[str, str]:
    """Return what is wrong by field; under "" what concerns no single one."""
    return error.messages if isinstance(error, FormError) else {"": str(error)}


def preview_of(values: dict[str, str]) -> dict[str, Any]:
    """Return what a form as it stands would do."""
    try:
        recipe = chosen_recipe(values)
    except FormError as error:
        return {"recipe": None, "problem": str(error), "destination": None, "bits": None}
    model_id = values["model_id"]
    destination = values["repo_id"] or (default_destination(model_id, recipe) if model_id else None)
    return {
        "recipe": recipe,
        "problem": None,
        "destination": destination,
        "bits": recipe.bits_per_weight(*PREVIEW_SHAPE),
    }
