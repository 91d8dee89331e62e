"""What is said about a job, in each form. Thin: ids, the state and links; the reader asks the API for the rest."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service.jobs.schema import Job
from service.notifications.schema import TEST_TYPE

_MARKS = {"succeeded": "✅", "failed": "❌", "canceled": "⏹️"}


def job_payload(job: Job, *, state: str, at: datetime, base_url: str) -> dict[str, Any]:
    """Return the body of a Standard Webhooks message about a change of state."""
    data: dict[str, Any] = {
        "job_id": job.id,
        "state": state,
        "attempt": job.attempt,
        "model_id": job.source.model_id,
        "destination": job.destination.repo_id,
        "recipe": job.recipe.name,
        "tags": list(job.tags),
        "url": f"{base_url}/v1/jobs/{job.id}",
        "page": f"{base_url}/jobs/{job.id}",
    }
    if state == "succeeded" and job.result is not None:
        data["commit_url"] = job.result.commit_url
    if state == "failed" and job.failure is not None:
        data["failure"] = {"code": job.failure.code, "message": job.failure.message}
    return {"type": f"job.{state}", "timestamp": at.isoformat(), "data": data}


def trial_payload(*, at: datetime) -> dict[str, Any]:
    """Return the body of a message that only tests an endpoint."""
    return {"type": TEST_TYPE, "timestamp": at.isoformat(), "data": {"message": "This endpoint works."}}


def body(payload: Mapping[str, Any]) -> str:
    """Return the text that is signed and sent."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False)


def slack_body(payload: Mapping[str, Any]) -> str:
    """Return the same news for a Slack-compatible incoming webhook."""
    return json.dumps({"text": _sentence(payload, link=_slack_link)}, ensure_ascii=False)


def mail(payload: Mapping[str, Any]) -> tuple[str, str]:
    """Return subject and text of the same news as a mail."""
    data = payload["data"]
    if "job_id" not in data:
        return "SRR: this address works", str(data["message"])
    subject = f"SRR: {data['model_id']} {data['state']}"
    lines = [_sentence(payload, link=lambda _, text: text), "", f"Job:         {data['page']}"]
    lines += [f"Destination: {data['destination']}", f"Recipe:      {data['recipe']}"]
    if "commit_url" in data:
        lines.append(f"Commit:      {data['commit_url']}")
    # A model's name is somebody else's text: no line break of it may begin a header.
    return " ".join(subject.split()), "\n".join(lines) + "\n"


def _sentence(payload: Mapping[str, Any], *, link: Any) -> str:
    data = payload["data"]
    if "job_id" not in data:
        return str(data["message"])
    mark = _MARKS.get(data["state"], "▶️")
    said = f"{mark} {link(data['page'], data['model_id'])} with {data['recipe']}: {data['state']}."
    if "commit_url" in data:
        said += f" Published as {link(data['commit_url'], data['destination'])}."
    if "failure" in data:
        said += f" {_plain(data['failure']['message'])} ({data['failure']['code']})"
    return said


def _slack_link(url: str, text: str) -> str:
    return f"<{_plain(url)}|{_plain(text)}>" if url.startswith(("https://", "http://")) else _plain(text)


def _plain(text: str) -> str:
    # Slack's own escapes: a model card's "<!channel>" must not ring everybody.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
