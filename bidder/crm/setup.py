"""What does the CRM need of this installation? Keys, retention, segments and advertisers as one."""

from collections.abc import Mapping
from pathlib import Path
from random import Random, SystemRandom

from bidder import settings as settings_of
from bidder.crm.activity import Keep
from bidder.crm.pseudonyms import Pseudonyms
from bidder.crm.rights import consent
from bidder.crm.segments import Segments
from bidder.crm.segments import load as load_segments
from bidder.crm.writing import Retention, Sale, Writer
from bidder.ids import hash32
from bidder.orders import Orders
from bidder.people.loading import Silence
from bidder.settings import Settings
from bidder.store.links import Links
from bidder.tombstones import Tombstones


def retention(given: Settings) -> Retention:
    """How long what the CRM writes may stay."""
    kept = given.retention
    return Retention(
        profile=kept.profile,
        identifier=kept.identifier,
        ledger=kept.ledger,
        match=kept.match,
        objection=given.rights.tombstone,
        records=Keep(visits=kept.visits, orders=kept.orders, contacts=kept.contacts),
    )


def pseudonyms(given: Settings, country: str = "FR") -> Pseudonyms:
    """What hashes the names of customers. Raises `ValueError` on a key that is none."""
    state = given.state_dir
    orders = Orders(settings_of.order_key(state))
    return Pseudonyms(settings_of.crm_keys(state), country, orders)


def segments(config: Path) -> Segments:
    """What the traders defined. Raises `InvalidFile`."""
    return load_segments(config / "segments")


def writer(
    links: Links,
    given: Settings,
    rules: Segments,
    advertisers: Mapping[int, str],
    on_sale: Sale | None = None,
    on_silence: Silence | None = None,
) -> Writer:
    """The one way into the store. `advertisers`: 32-bit id -> name. Make it in a running loop."""
    return Writer(
        links,
        rules,
        advertisers,
        retention(given),
        Tombstones(settings_of.tombstone_keys(given.state_dir)),
        consent.rules(given),
        Random(SystemRandom().getrandbits(128)),
        on_sale,
        on_silence,
    )


def advertiser_names(*names: str) -> dict[int, str]:
    """32-bit id -> name."""
    return {hash32(name): name for name in names}
