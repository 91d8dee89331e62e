"""What clients get about workers."""

from datetime import datetime

from pydantic import BaseModel, Field


class WorkerResource(BaseModel):
    """A worker process. Whose job it holds is told to that owner only, by the job itself."""

    name: str
    host: str
    device: str
    version: str
    started_at: datetime
    seen_at: datetime = Field(description="When it last said that it is there.")
    is_alive: bool = Field(description="It said so within the last minute.")
    is_busy: bool = Field(description="It holds a job.")
    trouble: str | None = Field(default=None, description="What keeps it from taking jobs now; null when it is fit.")


class WorkerList(BaseModel):
    """The workers of the last day, latest first, and the queue before them."""

    workers: list[WorkerResource]
    queue_depth: int = Field(description="Jobs of everybody that wait for a worker.")
