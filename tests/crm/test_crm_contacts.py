"""What was sent to people is in their ledgers."""

from collections.abc import Callable
from random import Random

from bidder import capping
from bidder.capping import Channel, Ledger
from bidder.capping import Kind as Touch
from bidder.capping.ledger import RECORD_BYTES as LEDGER_BYTES
from bidder.crm.activity import Kind, opened, record
from bidder.crm.bulk import write
from bidder.crm.contacts import contacts
from bidder.crm.sorting import Slice
from bidder.crm.writing import Writer
from bidder.ids import hash32, to_text
from bidder.store import keys
from bidder.store.coalesce import Scripts
from bidder.store.links import Links

NOW, YEAR = 1_795_000_000, 396 * 86400
SHOP = hash32("maison-lumen")


def sent(*hours_ago: int) -> tuple[bytes, list[bytes]]:
    """Records of emails and texts, and the same for a ledger."""
    records = b"".join(
        record(NOW - 3600 * ago, Kind.SMS_SENT if ago % 2 else Kind.EMAIL_SENT, SHOP)
        for ago in sorted(hours_ago, reverse=True)
    )
    rows = opened(records)
    raw = contacts(rows, opened(records)["time"].astype("i8") * 0, 1, NOW)[0].tobytes()
    return records, [raw[at : at + LEDGER_BYTES] for at in range(0, len(raw), LEDGER_BYTES)]


async def test_a_ledger_made_meanwhile_is_added_to(
    links: Links, writer_on: Callable[..., Writer]
) -> None:
    records, rows = sent(4, 3)
    writer = writer_on(links)
    writer.random = Random(5)
    person = to_text(Random(5).randbytes(12))
    await capping.absorb_all(Scripts(links), [(person, sent(2)[1])], NOW, YEAR)
    people = Slice(
        sources=["crm"], values=["c1"], id_counts=[1], former=[()], records=records, counts=[2],
        contacts=b"".join(rows), contact_counts=[2], first_seen=[0], words={},
    )  # fmt: skip
    assert (await write(writer, people, NOW)).new == 1
    (ledger,) = await links.bulk([("GET", keys.ledger(person))])
    found = sorted(
        (each.time, each.kind, each.channel, each.advertiser)
        for each in Ledger(ledger, NOW).records()
    )
    assert found == [
        (NOW - 3600 * ago, Touch.IMPRESSION, channel, SHOP)
        for ago, channel in ((4, Channel.EMAIL), (3, Channel.SMS), (2, Channel.EMAIL))
    ]
