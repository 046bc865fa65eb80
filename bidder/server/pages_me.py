"""What does a person see of themselves on `/me`? The parts of the page, from all that is held."""

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from unicodedata import normalize

from bidder.campaigns.catalogue import Advertiser
from bidder.capping import Kind, Ledger
from bidder.crm.activity import spent
from bidder.crm.rights import Everything
from bidder.crm.rights.wishes import PAUSES
from bidder.money import MICROS
from bidder.person import Profile, silent
from bidder.server.pages_html import Writer
from bidder.server.pages_why import kind_of
from bidder.server.pages_words import OFFERED, category, stage

MONTH_SECONDS = 30 * 86400
SHOWN_CHARS = 4
"""Of a name we know somebody by: enough to recognise it, too little to use."""
_MONTHS = (
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre".split()
)


def stranger(write: Writer, token: str) -> str:
    """The page of somebody we do not know."""
    field = (
        f'<p><label class="name" for="code">{write.say("me.code")}</label>'
        f'<input type="text" id="code" name="code" autocomplete="off" spellcheck="false" '
        f'maxlength="40" required aria-describedby="code-hint"></p>'
        f'<p class="hint" id="code-hint">{write.say("me.code.hint")}</p>'
    )
    return write.section(
        "me.stranger",
        write.p("me.stranger.lead"),
        write.form("code", token, field, "me.code.go"),
    )


def somebody(
    write: Writer,
    held: Everything,
    advertisers: Mapping[str, Advertiser],
    now: float,
    token: str,
) -> str:
    """The page of this person. `advertisers` by id: those who may speak to them."""
    profile = held.profile
    parts = [write.p("me.lead", "lead"), _state(write, profile, now, token)]
    if not (profile.opted_out or profile.withdrawn):
        parts.append(_interests(write, profile, token))
    parts.append(_fewer(write, profile, advertisers, token))
    did, are = _did(write, held, advertisers, now), _are(write, held, now)
    nothing = "" if did else write.p("known.none")
    parts.append(write.section("known.title", nothing, write.facts([*did, *are])))
    sure = (
        '<label class="tick"><input type="checkbox" name="sure" value="yes">'
        f"<span>{write.say('erase.sure')}</span></label>"
    )
    parts += [
        write.section(
            "copy.title",
            write.p("copy.lead"),
            write.form("export", token, "", "copy.go", "quiet"),
        ),
        write.section(
            "erase.title",
            write.p("erase.lead"),
            write.form("erase", token, f"<p>{sure}</p>", "erase.go", "grave"),
        ),
        write.form("leave", token, "", "me.leave", "quiet"),
    ]
    return "".join(parts)


def _state(write: Writer, profile: Profile, now: float, token: str) -> str:
    """On, paused or off, and how to change it."""
    if profile.withdrawn and not profile.opted_out:
        date = day(profile.withdrawn, write)
        return write.section("state.title", write.p("state.withdrawn", date=date))
    if profile.opted_out:
        form = write.form("allow", token, "", "state.allow")
        return write.section("state.title", write.p("state.out"), form)
    off = write.form("object", token, write.p("state.object.hint", "hint"), "state.object", "quiet")
    if silent(profile, now):
        date = day(profile.paused_until, write)
        resume = write.form("resume", token, "", "state.resume")
        return write.section("state.title", write.p("state.paused", date=date), resume, off)
    options = "".join(
        f'<option value="{days}">{write.say("state.days", days=days)}</option>' for days in PAUSES
    )
    choice = (
        f'<p class="row"><label for="days">{write.say("state.pause")}</label>'
        f'<select id="days" name="days">{options}</select></p>'
    )
    pause = write.form("pause", token, choice, "state.pause.go", "quiet")
    return write.section("state.title", write.p("state.on"), pause, off)


def _interests(write: Writer, profile: Profile, token: str) -> str:
    """Every subject offered, and those held beside: ticked if it counts."""
    held = {code.partition("-")[0] for code in profile.interests}
    held_names = {code for code in held if code not in OFFERED}
    choices = [
        (code, category(code, write.language), code in held)
        for code in (*OFFERED, *sorted(held_names))
    ]
    choices.sort(key=lambda choice: _plain(choice[1]))
    boxes = write.ticks("interest", "interests.lead", choices)
    note = write.p("interests.none", "hint")
    return write.section(
        "interests.title", write.form("interests", token, boxes + note, "interests.go")
    )


def _fewer(
    write: Writer, profile: Profile, advertisers: Mapping[str, Advertiser], token: str
) -> str:
    names = sorted({*advertisers, *profile.fewer_ads})
    if not names:
        return write.section("fewer.title", write.p("fewer.none"))
    choices = [(name, called(name), name in profile.fewer_ads) for name in names]
    boxes = write.ticks("advertiser", "fewer.lead", choices)
    return write.section("fewer.title", write.form("fewer", token, boxes, "fewer.go"))


def _did(
    write: Writer, held: Everything, advertisers: Mapping[str, Advertiser], now: float
) -> list[tuple[str, str]]:
    """What the person did, as far as it is held."""
    profile = held.profile
    rows: list[tuple[str, str]] = []
    for key, time in (
        ("known.first", profile.first_seen),
        ("known.visit", profile.last_visit),
        ("known.order", profile.last_order),
    ):
        if time:
            rows.append((write.say(key), day(time, write)))
    if profile.orders:
        rows.append((write.say("known.orders"), str(profile.orders)))
    if profile.spent_micros > 0:
        rows.append((write.say("known.spent"), _spent(write, held, advertisers)))
    if profile.stage:
        rows.append((write.say("known.stage"), escape(stage(profile.stage, write.language))))
    for name, basket in sorted(profile.baskets.items()):
        value = write.say(
            "known.basket.one" if basket.products == 1 else "known.basket.is",
            products=basket.products,
            value=amount(basket.value_micros, write, _currency(name, advertisers)),
            date=day(basket.updated, write),
        )
        rows.append((write.say("known.basket", advertiser=called(name)), value))
    if profile.segments:
        groups = [
            write.say(
                "known.groups.is",
                label=write.words(f"group.{kind_of(name)}"),
                name=name,
                date=day(at, write),
            )
            for name, at in sorted(profile.segments.items(), key=lambda item: -item[1])
        ]
        rows.append((write.say("known.groups"), write.items(groups)))
    return rows + _ads(write, held, advertisers, now)


def _are(write: Writer, held: Everything, now: float) -> list[tuple[str, str]]:
    """Who they are for us, and for how long."""
    profile, rows = held.profile, []
    names = [f"{escape(source)}: {escape(value[:SHOWN_CHARS])}…" for source, value in
             held.identifiers]  # fmt: skip
    rows.append((write.say("known.names"), write.items(names)))
    consent = (
        write.say(
            "known.consent.is",
            source=profile.consent_source or "?",
            date=day(profile.consent_time, write),
        )
        if profile.consent
        else write.say("known.noconsent")
    )
    rows.append((write.say("known.consent"), consent))
    if held.seconds_left > 0:
        rows.append((write.say("known.until"), day(now + held.seconds_left, write)))
    return rows


def _currency(name: str, advertisers: Mapping[str, Advertiser]) -> str:
    advertiser = advertisers.get(name)
    return advertiser.currency if advertiser is not None else ""


def _spent(write: Writer, held: Everything, advertisers: Mapping[str, Advertiser]) -> str:
    """What the person spent, in each currency: amounts of different ones are never added up."""
    currencies = {each.id32: each.currency for each in advertisers.values()}
    sums: dict[str, int] = {}
    for advertiser, micros in spent(held.activity).items():
        currency = currencies.get(advertiser, "")
        sums[currency] = sums.get(currency, 0) + micros
    if not any(micros > 0 for micros in sums.values()):  # all that is held is the sum itself
        every = set(currencies.values())
        sums = {every.pop() if len(every) == 1 else "": held.profile.spent_micros}
    shown = [
        amount(micros, write, currency) for currency, micros in sorted(sums.items()) if micros > 0
    ]
    return shown[0] if len(shown) == 1 else write.items(shown)


def _plain(text: str) -> str:
    """For the order of the alphabet, in which É stands beside E."""
    return normalize("NFKD", text).encode("ascii", "ignore").decode().casefold()


def _ads(
    write: Writer, held: Everything, advertisers: Mapping[str, Advertiser], now: float
) -> list[tuple[str, str]]:
    """How many ads of whom were shown in the last month."""
    by_id = {advertiser.id32: name for name, advertiser in advertisers.items()}
    seen: dict[str, list[int]] = {}
    for record in Ledger(held.ledger, int(now)).records():
        if record.kind is Kind.IMPRESSION and record.time > now - MONTH_SECONDS:
            name = by_id.get(record.advertiser)
            label = called(name) if name else "?"
            seen.setdefault(label, []).append(record.time)
    lines = [
        write.say("known.ads.is", advertiser=name, count=len(times), date=day(max(times), write))
        for name, times in sorted(seen.items())
    ]
    return [(write.say("known.ads"), write.items(lines))] if lines else []


def called(name: str) -> str:
    """An advertiser as people know it: ``Maison Lumen``."""
    return name.replace("-", " ").replace("_", " ").title()


def day(seconds: float, write: Writer) -> str:
    """A date as one says it."""
    date = datetime.fromtimestamp(seconds, UTC)
    if write.language == "fr":
        first = "1er" if date.day == 1 else str(date.day)
        return f"{first} {_MONTHS[date.month - 1]} {date.year}"
    return f"{date.day} {date:%B %Y}"


def amount(micros: int, write: Writer, currency: str = "") -> str:
    """An amount; where the currency is not known, without one."""
    text = f"{micros / MICROS:,.2f}"
    if write.language == "fr":
        text = text.replace(",", "\u202f").replace(".", ",")
    return f"{text}\u00a0{currency}" if currency else text
