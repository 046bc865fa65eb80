"""What may we do? Consent strings and opt-outs become one `Permission`."""

from bidder.privacy.bits import InvalidConsent
from bidder.privacy.minimise import cut_ip, minimise
from bidder.privacy.permission import (
    ALL,
    NONE,
    Permission,
    Reason,
    Rules,
    permission,
    permission_from_query,
)
from bidder.privacy.sensitive import is_sensitive

__all__ = [
    "ALL",
    "NONE",
    "InvalidConsent",
    "Permission",
    "Reason",
    "Rules",
    "cut_ip",
    "is_sensitive",
    "minimise",
    "permission",
    "permission_from_query",
]
