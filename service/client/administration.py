"""Calls about what surrounds jobs: watches, webhook endpoints, keys, workers."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from service.api.key_schemas import KeyList, KeyResource, NewKey, UsageResource
from service.api.worker_schemas import WorkerList
from service.client.connection import Connection
from service.keys.schema import KeyCreate
from service.notifications.schema import Delivery, Endpoint, NewEndpoint
from service.releases.schema import Preview, Watch


class _Watches(BaseModel):
    watches: tuple[Watch, ...]


class _Previews(BaseModel):
    previews: tuple[Preview, ...]


class _Endpoints(BaseModel):
    endpoints: tuple[Endpoint, ...]


class _Nothing(BaseModel):
    """An answer without content."""


class Administration(Connection):
    """What a service is set up with."""

    def workers(self) -> WorkerList:
        """Return who could run a job, and how many jobs wait."""
        return self._call(WorkerList, "GET", "/v1/workers")

    def watches(self) -> tuple[Watch, ...]:
        """Return the watches over models and organizations."""
        return self._call(_Watches, "GET", "/v1/watches").watches

    def create_watch(self, rules: Mapping[str, Any]) -> Watch:
        """Make a watch; the rules are the body of `POST /v1/watches`."""
        return self._call(Watch, "POST", "/v1/watches", json=rules)

    def preview_watch(self, rules: Mapping[str, Any], *, days: int = 30) -> tuple[Preview, ...]:
        """Return what a watch with these rules would have done in the last days, and make none."""
        return self._call(_Previews, "POST", "/v1/watches/preview", json=rules, params={"days": days}).previews

    def delete_watch(self, watch_id: str) -> None:
        """End a watch."""
        self._call(_Nothing, "DELETE", f"/v1/watches/{watch_id}")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the webhook endpoints that receive job events."""
        return self._call(_Endpoints, "GET", "/v1/webhook-endpoints").endpoints

    def create_endpoint(self, rules: Mapping[str, Any]) -> NewEndpoint:
        """Make an endpoint and return it with its secret; the rules are the body of `POST /v1/webhook-endpoints`."""
        return self._call(NewEndpoint, "POST", "/v1/webhook-endpoints", json=rules)

    def test_endpoint(self, endpoint_id: str) -> Delivery:
        """Queue a message that only tests an endpoint."""
        return self._call(Delivery, "POST", f"/v1/webhook-endpoints/{endpoint_id}/test")

    def delete_endpoint(self, endpoint_id: str) -> None:
        """End an endpoint."""
        self._call(_Nothing, "DELETE", f"/v1/webhook-endpoints/{endpoint_id}")

    def keys(self) -> KeyList:
        """Return the API keys of the caller."""
        return self._call(KeyList, "GET", "/v1/api-keys")

    def create_key(self, key: KeyCreate) -> NewKey:
        """Make an API key; its text is shown this once."""
        return self._call(NewKey, "POST", "/v1/api-keys", json=key.model_dump(mode="json"))

    def revoke_key(self, key_id: str) -> KeyResource:
        """End an API key."""
        return self._call(KeyResource, "DELETE", f"/v1/api-keys/{key_id}")

    def usage(self) -> UsageResource:
        """Return what the caller uses and may use."""
        return self._call(UsageResource, "GET", "/v1/usage")
