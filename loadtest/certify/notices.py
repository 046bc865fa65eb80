"""Does the bidder take notices, pixels and clicks as exchanges and browsers send them?"""

import re
from urllib.parse import quote, urlsplit

from loadtest.exchange.lawful import Json, bids_of
from loadtest.exchange.macros import substitute
from loadtest.exchange.markup import Calls, calls, origin

from .rules import Failed, Skipped, Trial, Unproven, rule
from .wire import Answer, get

_GROUP = "notices"
_VALUES = {
    "PRICE": "0.01",
    "CURRENCY": "EUR",
    "LOSS": "102",
    "MIN_TO_WIN": "9.5",
    "MULTIPLIER": "1",
}


def ways(url: str) -> dict[str, str]:
    """A notice URL as exchanges really send it, by the name of the way (§4.4, §7.8)."""
    return {
        "replaced": substitute(url, _VALUES),
        "empty": substitute(url, {}),
        "AUDIT": substitute(url, dict.fromkeys(_VALUES, "AUDIT")),
        "unreplaced": url,
        "unreplaced and encoded": re.sub(r"\$\{[A-Z_:0-9]+\}", lambda m: quote(m[0], safe=""), url),
    }


async def _try(trial: Trial, name: str) -> None:
    _, answer = await trial.bid()
    url = _first(answer, name)
    if not url:
        raise Skipped(f"its bid has no `{name}`")
    for way, called in ways(url).items():
        _good(await get(called), way)
    _good(await get(ways(url)["replaced"]), "replaced, again")


def _first(answer: Json, name: str) -> str:
    return next((bid[name] for _, bid in bids_of(answer) if bid.get(name)), "")


def _good(answer: Answer, way: str) -> None:
    if not 200 <= answer.status < 300:
        raise Failed(f"{way}: status {answer.status}")


@rule(_GROUP, "win", "§4.3.1, §4.4, §7.8")
async def win(trial: Trial) -> None:
    """`nurl` answers 2xx: replaced, empty, AUDIT and unreplaced macros, and again"""
    await _try(trial, "nurl")


@rule(_GROUP, "billing", "§4.3.1, §4.4, §7.8")
async def billing(trial: Trial) -> None:
    """`burl` answers 2xx: replaced, empty, AUDIT and unreplaced macros, and again"""
    await _try(trial, "burl")


@rule(_GROUP, "loss", "§4.3.1, §4.4, §7.8")
async def loss(trial: Trial) -> None:
    """`lurl` answers 2xx: replaced, empty, AUDIT and unreplaced macros, and again"""
    await _try(trial, "lurl")


async def _calls(trial: Trial) -> Calls:
    """What the ad of a bid calls where the bid request went, or where its notices go."""
    _, answer = await trial.bid()
    origins = {origin(_first(answer, name)) for name in ("nurl", "burl", "lurl")}
    markup = substitute(_first(answer, "adm"), _VALUES)
    return calls(markup, origins | {trial.target.origin})


async def _click(trial: Trial) -> str:
    found = (await _calls(trial)).click
    if not found:
        raise Unproven("its markup has no link to the bidder: nobody would count a click")
    return found


@rule(_GROUP, "impression", "§7.8")
async def impression(trial: Trial) -> None:
    """Pixels are images, each time they are called"""
    found = (await _calls(trial)).impressions
    if not found:
        raise Unproven("its markup loads nothing from the bidder: nobody would count an impression")
    for url in found:
        for way in ("first", "again"):
            answer = await get(url)
            kind = answer.headers.get("content-type", "")
            if answer.status != 200 or not kind.startswith("image/"):
                raise Failed(f"{way}: status {answer.status}, content-type {kind!r}")


@rule(_GROUP, "click", "§7.8")
async def click(trial: Trial) -> None:
    """A click redirects to a web page, also when it is repeated"""
    url = await _click(trial)
    for way in ("first", "again"):
        answer = await get(url)
        location = answer.headers.get("location", "")
        redirects = answer.status in (301, 302, 303, 307, 308)
        if not redirects or not location.startswith(("http://", "https://")):
            raise Failed(f"{way}: status {answer.status}, Location {location!r}")


@rule(_GROUP, "open-redirect", "CWE-601")
async def open_redirect(trial: Trial) -> None:
    """A tampered click URL leads nowhere else, and a forged notice is no server error"""
    url = await _click(trial)
    evil = "https://evil.example/"
    joined = "&" if "?" in url else "?"
    for name in ("url", "u", "redirect", "r", "to", "click"):
        answer = await get(f"{url}{joined}{name}={quote(evil, safe='')}")
        if answer.headers.get("location", "").startswith(evil):
            raise Failed(f"`{name}` in the URL decides where a click goes")
    answer = await get(_forged(url))
    if answer.status >= 500:
        raise Failed(f"forged click: status {answer.status}")


def _forged(url: str) -> str:
    """The URL with another end, at the same host."""
    parts = urlsplit(url)
    if parts.query:
        return parts._replace(query=parts.query[:-8] + "AAAAAAAA").geturl()
    return parts._replace(path=f"/{parts.path[1:-8]}AAAAAAAA").geturl()
