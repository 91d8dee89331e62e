"""A Hub in this process that speaks the real client's protocol, and fails on request.

with HubServer() as server:
    server.add_model("org/model", {"config.json": b"{}"})
    server.fail("commit", Failure.status(503), times=1)
    HfApi(endpoint=server.url).model_info("org/model")
"""

from tests.hub_server.failures import Failure
from tests.hub_server.repositories import Repository, User
from tests.hub_server.server import HubServer
from tests.hub_server.webhooks import Delivery, WebhookEvent

__all__ = ["Delivery", "Failure", "HubServer", "Repository", "User", "WebhookEvent"]
