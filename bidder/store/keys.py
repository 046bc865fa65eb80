"""Under which key does each thing stand?

What changes together stands under one hash tag (the part in braces), so that it shares a slot on a
Cluster and one script or one MGET can reach it. Every key of a person has a TTL.

==================================  =================================================  ==========
key                                 value                                              written by
==================================  =================================================  ==========
``id:<source>:<value>``             person id that an identifier stands for            people, crm
``p:{<person id>}``                 `Profile`, msgpack                                 people, crm
``i:{<person id>}``                 identifiers, msgpack list of [source, value]       people, crm
``a:{<person id>}``                 alias: the person id this one was merged into      crm
``m:{<person id>}``                 who was merged into them, msgpack list of ids      crm
``l:{<person id>}``                 ledger; the CRM writes the first of somebody new   Lua, crm
``e:{<person id>}``                 what the CRM reported: `bidder.crm.activity`       crm
``c:{<campaign id32, 8 hex>}:...``  money of a campaign: spend, leases, de-duplication  Lua alone
``t:<mark>``                        tombstone of an erased identifier: when, seconds    rights
``o:<mark>``                        one-time code for ``/me``: a sealed person id      rights
``control:forgotten``               hash: mark of a person -> until when, of the log   rights
``control:erasures``                how often somebody was erased                      rights
``control:crm-keys``               hash: mark of a key of names -> when last given    crm
``inbox:<host>``                    list of visits that workers saw: `crm.batch.Change`    workers
``refusals:<host>``                 list of `crm.browsers.Refusal` that workers saw    workers
``control:stops``                   set of paths that `bidder stop` silenced           the commands
``control:merges``                  set of merges under way: "<gone> <kept>"           crm
``control:categories``              hash: 32-bit id, 8 hex -> name of a category       crm
==================================  =================================================  ==========
"""

STOPS = "control:stops"
SEEDED = "control:seeded"
OWING = "control:owing"
"""Campaigns of which an impression was seen, and perhaps not yet billed."""
FORGOTTEN = "control:forgotten"
"""See `bidder.events.forgotten`."""
ERASURES = "control:erasures"
CRM_KEYS = "control:crm-keys"
MERGES = "control:merges"
CATEGORIES = "control:categories"


def identifier(source: str, value: str) -> str:
    """Where the person id behind one identifier stands."""
    return f"id:{source}:{value}"


def profile(person: str) -> str:
    """Where a person's profile stands."""
    return "p:{" + person + "}"


def identifiers(person: str) -> str:
    """Where the list of a person's identifiers stands: what to show, and what to erase."""
    return "i:{" + person + "}"


def alias(person: str) -> str:
    """Where the person that this one was merged into stands, if any."""
    return "a:{" + person + "}"


def everything(person: str) -> tuple[str, ...]:
    """Every key that stands under a person's id: what erasing them deletes."""
    return tuple(letter + ":{" + person + "}" for letter in "piamle")


def merged(person: str) -> str:
    """Where the ids stand that were merged into this person: who erases them erases all."""
    return "m:{" + person + "}"


def tombstone(mark: str) -> str:
    """Where it stands that an identifier was erased; `bidder.tombstones` makes the mark."""
    return "t:" + mark


def code(mark: str) -> str:
    """Where a one-time code for a person's page stands."""
    return "o:" + mark


def ledger(person: str) -> str:
    """Where a person's ledger stands."""
    return "l:{" + person + "}"


def activity(person: str) -> str:
    """Where the visits, orders and contacts that the CRM reported of a person stand."""
    return "e:{" + person + "}"


def inbox(host: str) -> str:
    """Where the visits that the workers of a host saw wait to be written."""
    return "inbox:" + host


def refusals(host: str) -> str:
    """Where the consent strings wait that permit nothing, to be judged."""
    return "refusals:" + host


def campaign(id32: int, part: str) -> str:
    """Where one part of a campaign's money stands."""
    return "c:{" + f"{id32:08x}" + "}:" + part
