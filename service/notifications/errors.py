"""Everything an endpoint or a delivery can be refused for, as one tree with a stable code per leaf.

NotificationError
├── EndpointNotFoundError   endpoint_not_found
├── DeliveryNotFoundError   delivery_not_found
├── InvalidEndpointError    invalid_endpoint
└── UnsafeAddressError      unsafe_address
"""

from typing import ClassVar


class NotificationError(Exception):
    """A refusal with a sentence for the caller."""

    code: ClassVar[str] = "notification_error"


class EndpointNotFoundError(NotificationError):
    """No endpoint has this id, or it belongs to somebody else."""

    code = "endpoint_not_found"


class DeliveryNotFoundError(NotificationError):
    """No delivery of this endpoint has this id."""

    code = "delivery_not_found"


class InvalidEndpointError(NotificationError):
    """An endpoint that could not be sent to."""

    code = "invalid_endpoint"


class UnsafeAddressError(NotificationError):
    """An address inside our own network, or one that is not plain https."""

    code = "unsafe_address"
