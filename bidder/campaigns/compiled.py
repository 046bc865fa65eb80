"""How does a catalogue travel? As msgpack, from the process that compiled it to those that serve.

Reading 10,000 line items of YAML takes seconds of a core, which a serving worker must not spend:
`bidder compile` does it once, and workers read this. It is read in small pieces, so that the thread
which does so never keeps the interpreter from the requests for long.
"""

from collections.abc import Hashable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct
from msgspec.structs import fields, replace

from bidder.campaigns.catalogue import Advertiser, Campaign, Catalogue, LineItem

_LENGTH_BYTES = 4
_OWN = tuple(field.name for field in fields(LineItem) if field.name != "campaign")
_SHARED = ("audience", "where", "when", "goal", "caps", "intrusiveness", "flights")
"""Fields in which many line items are alike: equal values become one."""

_Item = msgspec.defstruct(
    "_Item",
    [("owner", int), *[(f.name, f.type) for f in fields(LineItem) if f.name != "campaign"]],
    array_like=True,
)
"""A line item that names its campaign by id32, so that campaigns travel once."""


class _Owners(Struct, array_like=True):
    """What comes before the line items."""

    version: str
    advertisers: tuple[Advertiser, ...]
    campaigns: tuple[tuple[int, Campaign], ...]
    names: dict[int, str]


def encode(catalogue: Catalogue) -> bytes:
    """The catalogue as bytes."""
    owners = _Owners(
        catalogue.version,
        catalogue.advertisers,
        tuple([(campaign.advertiser.id32, campaign) for campaign in catalogue.campaigns]),
        dict(catalogue.names),
    )
    records = [_encoder.encode(owners)]
    for item in catalogue.line_items:
        own = [getattr(item, name) for name in _OWN]
        records.append(_encoder.encode(_Item(item.campaign.id32, *own)))
    return b"".join([len(r).to_bytes(_LENGTH_BYTES, "big") + r for r in records])


def decode(raw: bytes) -> Catalogue:
    """The catalogue behind `encode`. Raises `ValueError` on anything else."""
    records = _records(raw)
    owners = _owners.decode(next(records, b""))
    campaigns = _campaigns(owners)
    alike: dict[Hashable, Hashable] = {}
    line_items = []
    for record in records:
        item: Any = _items.decode(record)
        own = {name: getattr(item, name) for name in _OWN}
        for name in _SHARED:
            own[name] = alike.setdefault(own[name], own[name])
        line_items.append(LineItem(campaign=campaigns[item.owner], **own))
    return Catalogue(
        version=owners.version,
        line_items=tuple(line_items),
        campaigns=tuple(campaigns.values()),
        advertisers=owners.advertisers,
        names=owners.names,
    )


def _campaigns(owners: _Owners) -> dict[int, Campaign]:
    advertisers = {advertiser.id32: advertiser for advertiser in owners.advertisers}
    return {
        campaign.id32: replace(campaign, advertiser=advertisers[owner])
        for owner, campaign in owners.campaigns
    }


def _records(raw: bytes) -> Iterator[memoryview]:
    view, at = memoryview(raw), 0
    while at < len(raw):
        size = int.from_bytes(view[at : at + _LENGTH_BYTES], "big")
        at += _LENGTH_BYTES + size
        if at > len(raw):
            raise ValueError("the compiled catalogue is cut")
        yield view[at - size : at]


def _to_wire(value: Any) -> Any:
    if isinstance(value, ZoneInfo):
        return value.key
    raise TypeError(f"{type(value)} is not part of a catalogue")


def _from_wire(kind: type, value: Any) -> Any:
    if kind is ZoneInfo:
        return ZoneInfo(value)
    raise TypeError(f"{kind} is not part of a catalogue")


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_wire)
_owners = msgspec.msgpack.Decoder(_Owners, dec_hook=_from_wire)
_items = msgspec.msgpack.Decoder(_Item, dec_hook=_from_wire)
