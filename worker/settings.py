"""What an operator may choose about one worker: its device, its disk, its time."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

GIGABYTE = 1_000_000_000


class WorkerSettings(BaseSettings):
    """Read from `WORKER_*`. Where jobs are kept and which hubs there are is in `SERVICE_*`, shared with the API."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", extra="ignore", frozen=True)

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where layers are computed.")
    scratch_dir: Path | None = Field(
        default=None,
        description="Where jobs keep downloads and unfinished artifacts; None: scratch in SERVICE_DATA_DIR.",
    )
    disk_budget_bytes: int = Field(
        default=500 * GIGABYTE, gt=0, description="A job that takes more scratch space is stopped."
    )
    disk_reserve_bytes: int = Field(
        default=GIGABYTE, ge=0, description="Space that stays free: a job that would need it waits or fails."
    )
    memory_reserve_bytes: int = Field(
        default=256_000_000, ge=0, description="A worker whose machine has less memory left takes no job."
    )
    memory_budget_bytes: int | None = Field(
        default=None,
        gt=0,
        description="A job that takes more memory is stopped; None: nine tenths of the machine's or the container's.",
    )
    plan_seconds: float = Field(
        default=600.0,
        gt=0,
        description="A job whose configuration, tokenizer and texts take longer to read is stopped.",
    )
    time_limit_seconds: float = Field(default=12 * 3600, gt=0, description="A job that runs longer is stopped.")
    grace_seconds: float = Field(
        default=20.0, gt=0, description="Between asking a job's process to stop and killing its group."
    )
    shutdown_seconds: float = Field(
        default=3.0,
        ge=0,
        description="How long a worker that is asked to end waits for its job before it gives it back.",
    )
    hub_token: SecretStr | None = Field(
        default=None, description="Token for jobs that bring none, fine-grained to the namespaces we publish to."
    )
    vllm_python: Path | None = Field(
        default=None,
        description="Interpreter of an environment with vLLM and this package; published models are then tried in it.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level logged.")

    def resolved_scratch_dir(self, data_dir: Path) -> Path:
        """The scratch directory in use."""
        return self.scratch_dir or data_dir / "scratch"
