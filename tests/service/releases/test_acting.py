"""What becomes of releases that meet our own publications, jobs of others, a full quota or a bug."""

from dataclasses import replace
from pathlib import Path

from service.hub.folder import FolderMetadata
from service.hub.model import ResolvedModel
from service.keys.access import issue_key, lack_of_room
from service.keys.schema import ALL_SCOPES, Quota
from service.keys.store import KeyStore
from service.releases.act import act_on_releases
from service.releases.schema import ReleaseState
from srr_core.recipe import named_recipe
from tests.service.releases.conftest import Town, payload
from tests.worker.artifacts import report, source, write_artifact
from worker.publisher import publish_artifact


def test_our_own_publications_start_nothing(town: Town) -> None:
    watch = town.watch(destination="alice/{name}-{recipe}", pattern="alice/*")
    commit = publish_artifact(
        town.hub,
        write_artifact(town.root / "artifact", report()),
        repo_id="alice/out",
        report=report(),
        source=source(),
        source_directory=town.root,
        job_id="job_1",
        token=None,
        private=None,
    )
    first = town.hub.existing("alice/out").commit(commit.sha).parent  # what creates the repository

    town.deliver(watch, payload("alice/out", first))
    town.deliver(watch, payload("alice/out", commit.sha))
    town.act()
    town.poll(watch)
    town.act()

    assert town.submitted() == []
    reasons = [str(release.reason) for release in town.found(watch)]
    assert "no .safetensors" in reasons[0]
    assert reasons[1] == "it is an artifact of this product"


def test_job_that_only_names_a_model_as_its_destination_hides_no_release(town: Town) -> None:
    watch = town.watch()
    job = town.job(owner="mallory", destination="acme/model")
    town.jobs.cancel(job.id)
    town.job(owner="mallory", destination="acme/other")

    town.deliver(watch, payload("acme/model", town.release("acme/model")))
    town.deliver(watch, payload("acme/other", town.release("acme/other")))

    assert town.act() == 2


def test_release_waits_while_its_owner_has_no_room_and_is_not_lost(town: Town) -> None:
    keys = KeyStore(town.engine)
    issue_key(keys, name="small", owner="alice", scopes=ALL_SCOPES, quota=Quota(max_queued=1))
    watch = town.watch(recipes=(named_recipe("srr"), named_recipe("lqer")))
    town.deliver(watch, payload("acme/model", town.release("acme/model")))
    context = replace(town.context(), no_room=lambda owner: lack_of_room(owner, keys=keys, jobs=town.jobs))

    assert act_on_releases(context) == 0
    (first,) = town.submitted()
    (waiting,) = town.found(watch)
    assert (waiting.state, waiting.job_ids) == (ReleaseState.PENDING, (first.id,))
    assert "the quota of 1 jobs waiting is used up" in str(waiting.reason)
    town.advance(days=2)  # longer than an idempotency key lives
    assert act_on_releases(context) == 0
    town.jobs.cancel(first.id)
    town.advance(minutes=6)
    assert act_on_releases(context) == 1

    assert [job.work.destination.repo_id for job in town.submitted()] == ["ours/model-srr-3bit", "ours/model-lqer-3bit"]
    (done,) = town.found(watch)
    assert (done.state, done.reason, len(done.job_ids)) == (ReleaseState.SUBMITTED, None, 2)


def test_process_that_comes_late_changes_nothing_about_a_decided_release(town: Town) -> None:
    watch = town.watch()
    town.deliver(watch, payload("acme/model", town.release("acme/model")))
    (read_before,) = town.found(watch)
    town.act()
    (decided,) = town.found(watch)

    town.store.defer(read_before, until=town.clock(), reason="the quota is used up", jobs=[])
    town.store.decide(read_before, ReleaseState.SKIPPED, now=town.clock(), reason="late")

    assert town.found(watch) == [decided]


def test_release_that_is_given_up_halfway_keeps_the_jobs_it_has_become(town: Town) -> None:
    watch = town.watch(recipes=(named_recipe("srr"), named_recipe("lqer")))
    town.deliver(watch, payload("acme/model", town.release("acme/model")))
    full = replace(town.context(), no_room=lambda _: "full" if town.submitted() else None)
    act_on_releases(full)
    town.store.change(watch.model_copy(update={"enabled": False}))
    town.advance(minutes=6)

    town.act()

    (job,) = town.submitted()
    (release,) = town.found(watch)
    assert (release.state, release.job_ids) == (ReleaseState.SKIPPED, (job.id,))


def test_release_that_cannot_be_decided_does_not_hold_up_the_others(town: Town) -> None:
    watch = town.watch()
    town.deliver(watch, payload("acme/bad", town.release("acme/bad")))
    town.deliver(watch, payload("acme/good", town.release("acme/good")))

    assert town.act(Buggy(town.hub.root, "acme/bad")) == 1

    assert [job.work.source.model_id for job in town.submitted()] == ["acme/good"]
    bad = next(one for one in town.found(watch) if one.repo_id == "acme/bad")
    assert (bad.state, bad.reason) == (ReleaseState.PENDING, "failed here: RuntimeError")
    assert bad.due_at > town.clock()


class Buggy(FolderMetadata):
    """A hub that a bug of ours meets at one model."""

    def __init__(self, root: Path, model_id: str) -> None:
        super().__init__(root)
        self.model_id = model_id

    def resolve(self, model_id: str, revision: str = "main", *, token: str | None = None) -> ResolvedModel:
        if model_id == self.model_id:
            raise RuntimeError("a bug")
        return super().resolve(model_id, revision, token=token)
