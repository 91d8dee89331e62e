"""What every page is given."""

from typing import Annotated, cast

from fastapi import Depends, Form, Request

from service.web.csrf import FIELD
from service.web.rendering import Pages


async def get_pages(request: Request) -> Pages:
    """Return the page renderer of the running application."""
    return cast("Pages", request.app.state.pages)


PagesDep = Annotated[Pages, Depends(get_pages)]
Token = Annotated[str, Form(alias=FIELD)]
