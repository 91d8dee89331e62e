"""Models of this machine, copied into the folder hub of a service that only its own user reaches."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, status
from starlette.responses import RedirectResponse, Response

from service.edge.dependencies import JobWriter, Services, ServicesDep
from service.hub.errors import HubError, NoModelFolderError
from service.web.dependencies import PagesDep, Token
from service.web.form_page import FormPage
from service.web.forms import typed_values

router = APIRouter(include_in_schema=False, default_response_class=Response)


@router.post("/hub-models")
def bring_model_form(
    request: Request,
    pages: PagesDep,
    caller: JobWriter,
    services: ServicesDep,
    folder: Annotated[str, Form(max_length=4096)] = "",
    repo_id: Annotated[str, Form(max_length=96)] = "",
    csrf_token: Token = "",
) -> Response:
    """Copy a folder of this machine into the hub and show the form with its name, or with what is wrong."""
    pages.guard.check(request, csrf_token)
    folder, repo_id = folder.strip(), repo_id.strip()
    try:
        _bring(folder, repo_id, services)
    except HubError as error:
        values = typed_values({}) | {"folder": folder, "folder_name": repo_id}
        return FormPage(request, pages, caller, services).refuse(values, error)
    return RedirectResponse(f"/?{urlencode({'model_id': repo_id})}", status.HTTP_303_SEE_OTHER)


def _bring(folder: str, repo_id: str, services: Services) -> None:
    if services.bring_model is None:
        raise NoModelFolderError("this service reads no folders of its machine; put the model on the Hub")
    path = Path(folder).expanduser()
    if not path.is_absolute():
        raise NoModelFolderError(f"{folder or 'nothing'} is not a full path; begin with / or ~")
    if not path.is_dir():
        raise NoModelFolderError(f"{folder} is no folder on this machine")
    services.bring_model(path, repo_id)
