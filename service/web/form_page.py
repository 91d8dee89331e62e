"""The submit form as a page: empty, filled in, checked, or with what is wrong beside each field."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from starlette import status
from starlette.requests import Request
from starlette.responses import Response

from service.accounts.errors import HubAccessEndedError
from service.edge.dependencies import Services
from service.hub.result_bits import PLAIN_SHAPE, plain_bits
from service.jobs.schema import Job
from service.submissions.caller import Caller
from service.submissions.preflight import refused
from service.submissions.schema import ProblemNote, Validation
from service.web import choices
from service.web.again import base_of, earlier_job
from service.web.estimates import estimate_rows, relevant_rows
from service.web.forms import ADVANCED_FIELDS, FILE_FIELDS, FormError, chosen_recipe, default_destination
from service.web.goals import DEFAULT_GOAL, GOALS
from service.web.hub_access import brings_hub_access
from service.web.recipe_fields import own_words
from service.web.rendering import Pages, is_fragment
from service.web.sign_in import account_sign_in_url
from service.web.whole_bits import whole_bits
from service.web.wording import sentence
from srr_core.recipe import DEFAULT_RECIPE, PRESETS, Recipe, named_recipe
from srr_core.recipe.targets import USUAL, unserved

PREVIEW_SHAPE = PLAIN_SHAPE


@dataclass(frozen=True)
class FormPage:
    """Shows the form, or for a script only what would become of it, to one visitor."""

    request: Request
    pages: Pages
    caller: Caller
    services: Services

    def show(self, values: dict[str, str], *, again: Job | None = None) -> Response:
        """Return the page with what was typed, or with what an earlier job was asked for."""
        return self._render(values, again=again)

    def check(self, values: dict[str, str], validation: Validation | None, recipe: Recipe | None = None) -> Response:
        """Return what would become of the form."""
        if is_fragment(self.request):
            return self.pages.render(self.request, "check.html", **_checked(validation, recipe))
        return self._render(values, validation=validation)

    def refuse_check(self, values: dict[str, str], error: Exception) -> Response:
        """Return what keeps the form from being checked."""
        if not is_fragment(self.request):
            return self.refuse(values, error)
        code = getattr(error, "code", "invalid_form")
        problems = [ProblemNote(code=code, message=message) for message in messages_of(error).values()]
        return self.pages.render(self.request, "check.html", **_checked(refused(*problems)))

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
        again: Job | None = None,
        sign_in_again: str | None = None,
    ) -> Response:
        again = again or earlier_job(values, self.services.store, self.caller.owner)
        base = base_of(again)
        known = {*PRESETS, *([base.name] if base else [])}
        values["recipe"] = values["recipe"] if values["recipe"] in known else ""
        values["goal"] = values["goal"] if values["goal"] in GOALS else DEFAULT_GOAL
        known_bits = partial(whole_bits, values, self.request, self.services, self.caller)
        summary = preview_of(values, namespace_of(self.caller), base, known_bits)
        wrong = messages or {}
        return self.pages.render(
            self.request,
            "submit.html",
            status=status,
            values=values,
            messages=wrong,
            recipes=PRESETS.values(),
            base=base,
            default=DEFAULT_RECIPE,
            goals=GOALS,
            choices=choices,
            is_advanced=any(values[name] for name in ADVANCED_FIELDS)
            or bool({*ADVANCED_FIELDS, *FILE_FIELDS} & wrong.keys()),
            again=again,
            sign_in_again=sign_in_again,
            brings_folders=self.services.bring_model is not None,
            has_hub_access=brings_hub_access(self.caller, self.services),
            **summary,
            **_checked(validation, summary["recipe"]),
        )


def namespace_of(caller: Caller) -> str:
    """Return who an empty destination belongs to: an account by its name, which the owner of its jobs is not."""
    return caller.account.name if caller.account is not None else caller.owner


def messages_of(error: Exception) -> dict[str, str]:
    """Return what is wrong by field; under "" what concerns no single one, all of it where there is more than one."""
    return error.messages if isinstance(error, FormError) else {"": sentence(str(error.__cause__ or error))}


def preview_of(
    values: dict[str, str],
    owner: str,
    base: Recipe | None = None,
    bits: Callable[[Recipe], float | None] | None = None,
) -> dict[str, Any]:
    """Return what a form as it stands would do, and what its empty fields stand for.

    Args:
        bits: Returns those of the result over the whole model, None where nobody can say.
    """
    try:
        recipe = chosen_recipe(values, base=base)
    except FormError as error:
        nothing = dict.fromkeys(("recipe", "destination", "bits", "whole_bits", "warning"))
        return {**nothing, "problem": str(error), "own": own_words(named_recipe(DEFAULT_RECIPE))}
    bare = {name: values.get(name, "") for name in ("recipe", "goal")}
    model_id = values["model_id"]
    whole = bits(recipe) if bits is not None else None
    destination = values["repo_id"] or (
        default_destination(model_id, recipe, owner=owner, bits=whole) if model_id else None
    )
    return {
        "recipe": recipe,
        "own": own_words(chosen_recipe(bare, base=base)),
        "warning": unserved(recipe, USUAL),
        "problem": None,
        "destination": destination,
        "bits": plain_bits(recipe),
        "whole_bits": whole,
    }


def _checked(validation: Validation | None, recipe: Recipe | None = None) -> dict[str, Any]:
    warning = unserved(recipe, USUAL) if recipe else None
    if validation and warning:
        # The summary above says it already, of any model.
        notes = [note for note in validation.notes if sentence(warning) != sentence(note)]
        validation = validation.model_copy(update={"notes": notes})
    estimate = validation.estimate if validation else None
    return {
        "validation": validation,
        "estimates": estimate_rows(estimate) if estimate else [],
        "runtimes": relevant_rows(validation.compatibility, recipe) if validation and recipe else [],
    }
