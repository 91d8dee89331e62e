"""Fine-tunings that are killed at random instants of the core's work, and whether they end with the undisturbed bits.

Every attempt draws an instant, uniform over the seconds of an undisturbed run from the first written file on; its
process gets SIGKILL then, from within, and the supervisor gives the job back. An attempt that ends before its instant
ends its job, and the next job begins; so a job is killed as often as it happens to be.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from service.jobs.schema import Job, JobState
from tests.worker.supervised import mortal
from tests.worker.supervised.conftest import Bench, open_bench
from tests.worker.supervised.fine_tunings import adapter, seed_model, submit_tuning

TIME_LIMIT_SECONDS = 3600.0


def carry_out(bench: Bench, job: Job, instant: str) -> Job:
    """Run the next attempt of a job, and return the job after it."""
    supervisor = bench.supervisor(instant, module=mortal.__name__, time_limit_seconds=TIME_LIMIT_SECONDS)
    supervisor.run(job.id, job.attempt)
    after = bench.store.get(job.id)
    return bench.store.retry(job.id) if after.state is JobState.FAILED else after


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    draw = random.Random(chosen.seed)  # noqa: S311  # instants, no secrets
    kills, same, jobs, places = 0, 0, 0, list[str]()
    with tempfile.TemporaryDirectory() as folder, open_bench(Path(folder)) as bench:
        seed_model(bench)
        undisturbed = carry_out(bench, submit_tuning(bench, "me/undisturbed"), mortal.NEVER)
        expected = adapter(bench, "me/undisturbed")
        seconds = sum(bench.store.report(undisturbed.id)["seconds"].values())
        print(f"undisturbed: {seconds:.1f} s of the core", flush=True)
        while kills < chosen.kills:
            repo_id = f"me/killed-{jobs}"
            job = submit_tuning(bench, repo_id)
            jobs += 1
            while job.state is not JobState.SUCCEEDED:
                is_last = kills >= chosen.kills
                instant = mortal.NEVER if is_last else f"{draw.uniform(0, seconds):.3f}"
                job = carry_out(bench, job, instant)
                if job.state is not JobState.SUCCEEDED:
                    kills += 1
                    places.append("" if job.failure is None else job.failure.message.split(" it was ")[1])
                    print(f"killed after {instant} s {places[-1]}", flush=True)
            is_same = adapter(bench, repo_id) == expected
            same += is_same
            print(
                f"job {jobs} done after {job.attempt - 1} kills: {'the same' if is_same else 'ANOTHER'} adapter",
                flush=True,
            )
    print(
        f"{kills} kills in {jobs} jobs, seed {chosen.seed}: {same} of {jobs} adapters are those of the undisturbed run"
    )
    sys.exit(same != jobs)


if __name__ == "__main__":
    main()
