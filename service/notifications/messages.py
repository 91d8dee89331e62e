"""What is said about a job or an endpoint, in each form. Thin: ids, the state and links; the API has the rest."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.jobs.schema import Job
from service.notifications.schema import CHECKPOINT_TYPE, DISABLED_TYPE, TEST_TYPE, WATCH_TYPE, Delivery, Endpoint
from service.platform.ids import new_id

Payload = dict[str, Any]
_MARKS = {"succeeded": "✅", "failed": "❌", "canceled": "⏹️"}


def job_payload(job: Job, *, state: str, at: datetime, base_url: str) -> dict[str, Any]:
    """Return the body of a Standard Webhooks message about a change of state."""
    data: dict[str, Any] = {
        "job_id": job.id,
        "state": state,
        "attempt": job.attempt,
        "model_id": job.work.source.model_id,
        "destination": job.work.destination_id,
        "recipe": job.work.recipe_name,
        "tags": list(job.tags),
        "url": f"{base_url}/v1/jobs/{job.id}",
        "page": f"{base_url}/jobs/{job.id}",
    }
    if state == "succeeded" and job.result is not None:
        data["commit_url"] = job.result.commit_url
    if state == "failed" and job.failure is not None:
        data["failure"] = {"code": job.failure.code, "message": job.failure.message}
    return {"type": f"job.{state}", "timestamp": at.isoformat(), "data": data}


def checkpoint_payload(job: Job, told: Mapping[str, Any], *, at: datetime, base_url: str) -> Payload:
    """Return the body of a message about a checkpoint; several since the last message are one, about the latest.

    Args:
        told: What the worker said of it.
    """
    payload = job_payload(job, state=str(job.state), at=at, base_url=base_url)
    facts = {name: told[name] for name in ("cell", "step", "scores", "is_best") if name in told}
    payload["data"]["checkpoint"] = facts | {"url": f"{base_url}/v1/jobs/{job.id}/checkpoints"}
    return payload | {"type": CHECKPOINT_TYPE}


def trial_payload(*, at: datetime) -> dict[str, Any]:
    """Return the body of a message that only tests an endpoint."""
    return {"type": TEST_TYPE, "timestamp": at.isoformat(), "data": {"message": "This endpoint works."}}


def disabled_payload(endpoint: Endpoint, *, reason: str, at: datetime, base_url: str) -> dict[str, Any]:
    """Return the body of a message about an endpoint that was switched off; its URL may be a secret and is left out."""
    data = {
        "endpoint_id": endpoint.id,
        "description": endpoint.description,
        "reason": reason,
        "url": f"{base_url}/v1/webhook-endpoints/{endpoint.id}",
        "page": f"{base_url}/webhooks",
    }
    return {"type": DISABLED_TYPE, "timestamp": at.isoformat(), "data": data}


def watch_payload(watch_id: str, name: str, *, reason: str, next_try: datetime, at: datetime, base_url: str) -> Payload:
    """Return the body of a message about a watch that has failed several times in a row."""
    data = {
        "watch_id": watch_id,
        "name": name,
        "reason": reason,
        "next_try": next_try.isoformat(),
        "url": f"{base_url}/v1/watches/{watch_id}",
        "page": f"{base_url}/watches/{watch_id}",
    }
    return {"type": WATCH_TYPE, "timestamp": at.isoformat(), "data": data}


def message_to(endpoint_id: str, payload: Mapping[str, Any], *, now: datetime) -> Delivery:
    """Return a new message to an endpoint, due at once."""
    return Delivery(
        id=new_id("msg"),
        endpoint_id=endpoint_id,
        type=payload["type"],
        payload=dict(payload),
        created_at=now,
        due_at=now,
    )


def body(payload: Mapping[str, Any]) -> str:
    """Return the text that is signed and sent."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False)


def slack_body(payload: Mapping[str, Any]) -> str:
    """Return the same news for a Slack-compatible incoming webhook."""
    return json.dumps({"text": _sentence(payload, _SLACK)}, ensure_ascii=False)


def mail(payload: Mapping[str, Any]) -> tuple[str, str]:
    """Return subject and text of the same news as a mail."""
    data, said = payload["data"], _sentence(payload, _MAIL)
    if payload["type"] == TEST_TYPE:
        return "SRR: this address works", said
    if payload["type"] == DISABLED_TYPE:
        return "SRR: a webhook endpoint was switched off", f"{said}\n\nEndpoints: {data['page']}\n"
    if payload["type"] == WATCH_TYPE:
        return "SRR: a watch fails", f"{said}\n\nWatch: {data['page']}\n"
    news = "checkpoint" if payload["type"] == CHECKPOINT_TYPE else data["state"]
    subject = f"SRR: {data['model_id']} {news}"
    lines = [said, "", f"Job:         {data['page']}"]
    lines += [f"Destination: {data['destination']}", f"Recipe:      {data['recipe']}"]
    if "commit_url" in data:
        lines.append(f"Commit:      {data['commit_url']}")
    # A model's name is somebody else's text: no line break of it may begin a header.
    return " ".join(subject.split()), "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Form:
    """How strangers' text and links are written."""

    text: Callable[[str], str]
    link: Callable[[str, str], str]


def _sentence(payload: Mapping[str, Any], form: _Form) -> str:
    data = payload["data"]
    if payload["type"] == TEST_TYPE:
        return str(data["message"])
    if payload["type"] == DISABLED_TYPE:
        name = form.link(data["page"], data["description"] or data["endpoint_id"])
        return f"⚠️ The endpoint {name} was switched off: {form.text(data['reason'])}. Until it is on, messages wait."
    if payload["type"] == WATCH_TYPE:
        name = form.link(data["page"], data["name"])
        return f"⚠️ The watch {name} fails again and again: {form.text(data['reason'])} Next try: {data['next_try']}."
    mark = _MARKS.get(data["state"], "▶️")
    if payload["type"] == CHECKPOINT_TYPE:
        place = f"checkpoint at step {data['checkpoint'].get('step')}"
        best = ", the best so far" if data["checkpoint"].get("is_best") else ""
        return f"💾 {form.link(data['page'], data['model_id'])} with {form.text(data['recipe'])}: {place}{best}."
    said = f"{mark} {form.link(data['page'], data['model_id'])} with {form.text(data['recipe'])}: {data['state']}."
    if "commit_url" in data:
        said += f" Published as {form.link(data['commit_url'], data['destination'])}."
    if "failure" in data:
        said += f" {form.text(data['failure']['message'])} ({data['failure']['code']})"
    return said


def _slack_link(url: str, text: str) -> str:
    escaped = _slack_text(text)
    return f"<{_slack_text(url)}|{escaped}>" if url.startswith(("https://", "http://")) else escaped


def _slack_text(text: str) -> str:
    # Slack's own escapes: a model card's "<!channel>" must not ring everybody.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_SLACK = _Form(text=_slack_text, link=_slack_link)
_MAIL = _Form(text=str, link=lambda _, text: text)
