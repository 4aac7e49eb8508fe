"""The Kombu transport that loses nothing."""

from service.broker.transport.transport import SecureTransport, SentinelTransport, Transport

__all__ = ["SecureTransport", "SentinelTransport", "Transport"]
