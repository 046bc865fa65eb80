"""Which subjects may not be held of a person? Those that border on what GDPR Art. 9 protects.

Health, politics, sexual orientation and faith: an interest in them is never asked for and never
concluded from what somebody looked at. The page about them may still be where an ad stands.
"""

_SENSITIVE = frozenset({"IAB7", "IAB11", "IAB14", "IAB23"})
"""First tier of the IAB Content Taxonomy 1.0: health and fitness; law, government and politics;
society (dating and sexual orientation stand there); religion and spirituality."""


def is_sensitive(category: str) -> bool:
    """Is this category (``IAB7-3``), or the tier it belongs to, one of them?"""
    return category.strip().upper().partition("-")[0] in _SENSITIVE
