"""`srr watch sync`: make the Hub tell this service of releases."""

from service.commands.output import EXIT_BAD_INPUT, CommandError, print_json, print_line
from service.hub.client import HubClient
from service.hub.settings import HubSettings
from service.hub.webhooks import HuggingFaceWebhooks
from service.jobs.opening import open_jobs
from service.jobs.settings import JobsSettings
from service.releases.store import WatchStore
from service.releases.watches import sync_watch


def sync(*, base_url: str, hub_token: str, as_json: bool) -> None:
    """Create, repair or re-enable one webhook for each enabled watch, and say what was done.

    Raises:
        CommandError: the Hub would send the secret in clear over plain HTTP.
        HubError: the token may not manage webhooks, or the Hub does not answer.
    """
    if not base_url.startswith("https://"):
        raise CommandError(f"{base_url} is not https; the Hub sends the secret in clear", exit_code=EXIT_BAD_INPUT)
    webhooks = HuggingFaceWebhooks(HubClient(HubSettings().endpoint))
    with open_jobs(JobsSettings()) as jobs:
        store = WatchStore(jobs.engine)
        done = {
            watch.id: sync_watch(
                watch, base_url=base_url, store=store, vault=jobs.vault, webhooks=webhooks, token=hub_token
            )
            for watch in store.list()
            if watch.enabled
        }
    if as_json:
        print_json({"watches": {watch_id: str(action) for watch_id, action in done.items()}})
    else:
        for watch_id, action in done.items():
            print_line(f"{watch_id} {action}")
