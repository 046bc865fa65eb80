"""What may people ask of us, and how is it done? Access, correction, erasure, objection, consent.

Law and reasons: `docs/rights.md`.
"""

from bidder.crm.rights.audit import Audit
from bidder.crm.rights.consent import Verdict
from bidder.crm.rights.desk import Desk, Erased, NotFound
from bidder.crm.rights.held import Everything
from bidder.crm.rights.rectifying import BadPatch
from bidder.crm.rights.wishes import Wish, wished

__all__ = [
    "Audit",
    "BadPatch",
    "Desk",
    "Erased",
    "Everything",
    "NotFound",
    "Verdict",
    "Wish",
    "wished",
]
