"""The bits a result would have over the whole model, for its name, as far as a hub says how large the model is."""

from collections.abc import Mapping

from starlette.requests import Request

from service.accounts.errors import HubAccessEndedError
from service.edge.dependencies import Services
from service.hub.errors import HubError
from service.hub.folder import visible
from service.hub.result_bits import bits_of_result
from service.submissions.caller import Caller
from service.web.hub_access import job_token
from srr_core.errors import SrrError
from srr_core.recipe import Recipe


def whole_bits(
    values: Mapping[str, str],
    request: Request,
    services: Services,
    caller: Caller,
    recipe: Recipe,
    *,
    hub_token: str | None = None,
) -> float | None:
    """Return the bits, or None where the model is not found, may not be seen, or its hub is away.

    Headers are remembered for a while, so that the check of the same form does not read them again.
    """
    model_id = values.get("model_id", "")
    if values.get("repo_id") or "/" not in model_id.strip("/"):
        return None
    try:
        token = job_token(hub_token, request, caller, services).text
        hub = services.hubs.source(model_id)
        model = hub.resolve(model_id, values.get("revision") or "main", token=token)
        visible(model, is_local=hub.is_local, may_see=services.tenancy.of(caller.owner).sees_local)
        return bits_of_result(recipe, model, hub.inspect(model, token=token))
    except (HubError, HubAccessEndedError, SrrError):
        return None  # the check of the form says what is wrong with the model
