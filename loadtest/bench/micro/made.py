"""What are the microbenchmarks run on? The workload's line items and people, without the files."""

from itertools import count
from random import Random

import orjson

from bidder.campaigns.catalogue import Catalogue, LineItem
from bidder.campaigns.compiling import compiled
from bidder.campaigns.schema import Advertiser
from bidder.capping import Kind, Ledger, Record
from bidder.ids import hash32
from bidder.openrtb.opportunity import Opportunity, opportunity
from bidder.openrtb.request import decode
from bidder.people.records import parse
from bidder.person import Profile
from loadtest.bench import bodies, campaigns, people

DAY = 1_780_272_000
NOW = DAY + 12 * 3600
PER_ADVERTISER = 100


def catalogue(line_items: int) -> Catalogue:
    """What the workload writes, without the files."""
    found: list[LineItem] = []
    for number in range(max(line_items // PER_ADVERTISER, 1)):
        content = campaigns.advertiser(1, number, min(line_items, PER_ADVERTISER)).content
        found += compiled(Advertiser.model_validate(content), hash32).line_items
    found.sort(key=lambda item: -item.bid.max_cpm_micros)
    numbers = count()
    items = [_numbered(item, next(numbers)) for item in found]
    return Catalogue(version="", line_items=tuple(items), campaigns=(), advertisers=(), names={})


def _numbered(item: LineItem, index: int) -> LineItem:
    fields = {name: getattr(item, name) for name in item.__struct_fields__}
    return LineItem(**{**fields, "index": index})


def profile(number: int, advertisers: int) -> Profile:
    """What the store holds of person `number`."""
    line = orjson.dumps(people.person(1, number, advertisers, DAY, "buyeruid.bench"))
    return parse(line, NOW).profile


def offers(many: int) -> list[Opportunity]:
    """As many different requests, read."""
    found = bodies.made(1, many, day=DAY, consent_strings=50, vendor_id=1234)
    return [opportunity(decode(orjson.dumps(body)), "bench") for body in found]


def impressions(item: LineItem, many: int, ledgers: int, own_share: float = 0.5) -> list[bytes]:
    """Ledgers of `many` impressions of the last month, of which this share is the line item's."""
    random = Random(1)
    owner = item.campaign
    own = [owner.advertiser.id32, owner.id32, item.id32, item.creatives[0].id32]
    made = []
    for _ in range(ledgers):
        ledger = Ledger(b"", NOW)
        for time in sorted(NOW - random.randrange(30 * 86400) for _ in range(many)):
            others = [random.getrandbits(32) for _ in own]
            advertiser, campaign, line_item, creative = (
                own if random.random() < own_share else others
            )
            key = random.randbytes(8)
            ledger = ledger.plus(
                Record(time, Kind.IMPRESSION, advertiser, campaign, line_item, creative, key)
            )
        made.append(ledger.raw)
    return made
