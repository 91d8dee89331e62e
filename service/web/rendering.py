"""Templates to responses: the one place that knows Jinja."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.edge.problem import Problem
from service.edge.sessions import SESSION_COOKIE
from service.jobs.reports import job_report
from service.jobs.schema import Job
from service.jobs.tuned import chosen_cell, evaluation_at, start_words
from service.submissions.caller import Caller
from service.web import formatting
from service.web.csrf import FormGuard
from service.web.forms import TEXT_FIELDS
from service.web.report_story import report_story, shown_spectrum
from service.web.result import report_tiles
from service.web.training import tuning_charts
from service.web.views import report_charts, sorted_layers
from service.web.wording import FORMS, KIND_LABELS, SCOPE_WORDS, sentence
from srr_core.recipe.byte_sizes import size_words
from srr_core.report import Report
from srr_core.telling.frontier import Earlier
from srr_core.tuners.report import TuningReport

HERE = Path(__file__).parent
STATIC = HERE / "static"


def is_fragment(request: Request) -> bool:
    """Whether a script asked, and only wants a part of the page."""
    return request.headers.get("HX-Request") == "true"


class Pages:
    """Renders pages. Everything a template prints is escaped, but for drawings, whose words are escaped where drawn."""

    def __init__(self, guard: FormGuard, *, hub_url: str | None, has_sign_in: bool) -> None:
        self.guard = guard
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "size": size_words,
            "duration": formatting.duration,
            "moment": formatting.moment,
            "clock": formatting.clock,
            "percent": formatting.percent,
            "count_words": formatting.count_words,
            "short_sha": formatting.short_sha,
            "sentence": sentence,
        }
        self._environment.filters["pair"] = lambda word: (word, word)
        self._environment.globals["start_words"] = start_words
        self._environment.globals["evaluation_at"] = evaluation_at
        self._environment.globals["forms"] = FORMS
        self._environment.globals["kind_labels"] = KIND_LABELS
        self._environment.globals["has_sign_in"] = has_sign_in
        self._environment.globals["scope_words"] = SCOPE_WORDS
        self._environment.globals["typed_fields"] = ", ".join(
            "[name=goal]:checked" if name == "goal" else f"#{name}" for name in TEXT_FIELDS
        )

    def render(self, request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
        """Return a page, with a form token that fits the visitor's cookie."""
        cookie, token = self.guard.token(request)
        page = self._environment.get_template(template)
        text = page.render(
            path=request.url.path,
            is_signed_in=SESSION_COOKIE in request.cookies,
            account_name=_account_name(request),
            csrf_token=token,
            **context,
        )
        response = HTMLResponse(text, status)
        self.guard.remember(request, response, cookie)
        # A page shows the state of jobs and carries a form token: neither belongs in a shared cache.
        response.headers["Cache-Control"] = "no-store"
        return response

    def error(self, request: Request, problem: Problem) -> Response:
        """Return the page of a problem; where somebody has to sign in, lead there instead."""
        if problem.status == HTTPStatus.UNAUTHORIZED:
            query = urlencode({"next": request.url.path if request.method == "GET" else "/"})
            return RedirectResponse(f"/sign-in?{query}", HTTPStatus.SEE_OTHER)
        if problem.errors and all(error.field.startswith("path.") for error in problem.errors):
            # An id that no page of ours ever had in its address: for a person, that page does not exist.
            problem = problem.model_copy(update={"status": HTTPStatus.NOT_FOUND, "code": "not_found", "errors": []})
        return self.render(request, "error.html", status=problem.status, problem=problem)

    def report(
        self,
        request: Request,
        job: Job,
        report: Mapping[str, Any],
        earlier: Sequence[Earlier] = (),
        layer: str = "",
    ) -> Response:
        """Return the page of a report.

        Args:
            earlier: Other results of the same source, to stand beside a compression.
            layer: The one whose spectrum is shown.
        """
        parsed = job_report(job, report)
        if isinstance(parsed, TuningReport):
            cell = chosen_cell(parsed)
            names = tuple(dict.fromkeys(name for row in cell.evaluations for name in row.scores))
            return self.render(
                request,
                "report_finetune.html",
                job=job,
                report=parsed,
                cell=cell,
                names=names,
                charts=tuning_charts(parsed),
            )
        if not isinstance(parsed, Report):
            return self.render(request, f"report_{job.work.kind}.html", job=job, report=parsed)
        return self.render(
            request,
            "report.html",
            job=job,
            report=parsed,
            layers=sorted_layers(parsed),
            charts=report_charts(parsed),
            story=report_story(parsed, earlier),
            spectrum=shown_spectrum(parsed, layer),
            request_layer=layer,
            tiles=report_tiles(job, parsed),
        )


def _account_name(request: Request) -> str | None:
    caller: Caller | None = getattr(request.state, "caller", None)
    return caller.account.name if caller is not None and caller.account is not None else None
