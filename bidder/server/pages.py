"""What do people get who ask us about themselves? `GET /why`, `GET /me`, `POST /me`.

They live in the workers' HTTP server and stay out of the bids' way: a few at a time, none while the
worker is busy, what blocks in a thread, and all reads of the store in a few round trips.

Nobody learns anything of a person but that person: `/me` needs our cookie, or a one-time code.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, parse_qsl, urlsplit

import msgspec
from msgspec.structs import replace

from bidder.campaigns.catalogue import Advertiser, Catalogue
from bidder.crm.rights import Desk, Everything, NotFound, Wish
from bidder.crm.rights.wishes import PAUSES
from bidder.notices.tokens import Audience, InvalidToken, Sealed, Tokens
from bidder.server.edge import Answer
from bidder.server.pages_html import HEADERS, Writer
from bidder.server.pages_me import called, somebody, stranger
from bidder.server.pages_session import Seals, Session, cookie_name, cookies, set_cookie
from bidder.server.pages_why import contextual, kinds
from bidder.server.pages_words import LANGUAGES, OFFERED, chosen
from bidder.settings import Rights
from bidder.store.breaker import StoreUnavailable

PATHS = frozenset({"/why", "/me"})
OUR_COOKIE = "bidder_id"
"""The first-party id, as the pixel and the sync set it; the store knows it hashed."""
MOST_AT_ONCE = 8
MAX_BODY_BYTES = 16_384
MAX_FIELDS = 200
_DONE = frozenset({"interests", "fewer", "pause", "resume", "object", "allow", "leave"})


class Visit(NamedTuple):
    """One request for a page."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes


class Visitor(NamedTuple):
    """Who is there, if we know: all that is held of them, and their open page."""

    held: Everything | None
    session: Session | None
    cookie: str = ""
    """The `Set-Cookie` that opens, renews or ends the session; empty = none."""


NOBODY = Visitor(None, None)


class Pages:
    """The pages of one worker. `base` is our own address, as browsers see it."""

    def __init__(
        self,
        desk: Desk,
        tokens: Tokens,
        seals: Seals,
        catalogue: Callable[[], Catalogue],
        rights: Rights,
        base: str,
        busy: Callable[[], str],
        wall: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._tokens = tokens
        self._seals = seals
        self._catalogue = catalogue
        self._rights = rights
        self._secure = base.startswith("https://")
        self._host = urlsplit(base).netloc
        self._busy = busy
        self._wall = wall
        self._under_way = 0

    async def answer(self, visit: Visit) -> Answer:
        """The page, or what became of a form."""
        query = dict(parse_qsl(visit.query, max_num_fields=MAX_FIELDS))
        write = _writer(visit, query)
        if visit.method not in ("GET", "HEAD", *(("POST",) if visit.path == "/me" else ())):
            return Answer(405, headers={"Allow": "GET, POST" if visit.path == "/me" else "GET"})
        if self._under_way >= MOST_AT_ONCE or self._busy():
            return self._sorry(write, 503, "error.busy")
        self._under_way += 1
        try:
            if visit.path == "/why":
                return await self._why(visit, query, write)
            if visit.method == "POST":
                return await self._change(visit, write)
            return await self._me(visit, query, write)
        except StoreUnavailable:
            return self._sorry(write, 503, "error.busy")
        finally:
            self._under_way -= 1

    async def _why(self, visit: Visit, query: Mapping[str, str], write: Writer) -> Answer:
        try:
            sealed = self._tokens.open(query.get("t", ""), Audience.BROWSER)
        except InvalidToken:
            return self._page(write, "why.title", write.p("why.unknown"), 400)
        name = self._catalogue().names.get(sealed.advertiser, "")
        advertiser = called(name) if name else "?"
        reasons = await self._reasons(visit, sealed, write, advertiser)
        body = write.p("why.from", "lead", advertiser=self._in_full(name)) + write.section(
            "why.how", *reasons, write.p("why.nobody"), write.p("why.pays", advertiser=advertiser)
        )
        body += write.section(
            "why.do", f"<p>{write.link('/me', 'why.me')}</p>", write.p("why.notme", "hint")
        )
        return self._page(write, "why.title", body)

    async def _reasons(
        self, visit: Visit, sealed: Sealed, write: Writer, advertiser: str
    ) -> list[str]:
        """Why this ad: for strangers by what it is, for its own person by what they are."""
        item = next(
            (each for each in self._catalogue().line_items if each.id32 == sealed.line_item), None
        )
        if item is not None and contextual(item):
            return [write.p("why.context")]
        visitor = await self._visitor(visit)
        if item is None or visitor.held is None or sealed.person not in visitor.held.ids:
            return [write.p("why.audience", advertiser=advertiser), write.p("why.also")]
        found = kinds(item, visitor.held.profile.segments)
        return [
            write.p("why.mine", advertiser=advertiser),
            write.items([write.say(f"kind.{kind}") for kind in found]),
            write.p("why.also"),
        ]

    async def _me(self, visit: Visit, query: Mapping[str, str], write: Writer) -> Answer:
        visitor = await self._visitor(visit)
        done = query.get("done", "")
        said = write.told(f"done.{done}") if done in _DONE else ""
        if done == "unsure":
            said = write.told("erase.unsure", warned=True)
        elif done == "expired":
            said = write.told("error.expired", warned=True)
        elif done == "code":
            said = write.told("me.code.wrong", warned=True, hours=_span(self._rights.code))
        now = self._wall()
        token = self._seals.form(visitor.session, now)
        if visitor.held is None:
            return self._page(
                write, "me.title", said + stranger(write, token), cookie=visitor.cookie
            )
        body = somebody(write, visitor.held, self._advertisers(), now, token)
        return self._page(write, "me.title", said + body, cookie=visitor.cookie)

    async def _change(self, visit: Visit, write: Writer) -> Answer:
        """What a form asks for; then back to the page, so that a reload does not ask again."""
        if len(visit.body) > MAX_BODY_BYTES or not self._from_here(visit.headers):
            return self._back(write, "expired")
        try:
            fields = parse_qs(visit.body.decode(), max_num_fields=MAX_FIELDS)
        except ValueError:
            return self._back(write, "expired")
        visitor = await self._visitor(visit)
        token = _one(fields, "token")
        if not self._seals.meant(token, visitor.session, self._wall()):
            return self._back(write, "expired")
        act = _one(fields, "act")
        if act == "code":
            return await self._enter(_one(fields, "code"), write)
        if visitor.held is None:
            return self._back(write, "expired")
        return await self._do(act, fields, visitor.held, write)

    async def _do(
        self, act: str, fields: Mapping[str, list[str]], held: Everything, write: Writer
    ) -> Answer:
        ended = set_cookie("", 0, self._secure)
        if act == "leave":
            return self._back(write, "leave", ended)
        if act == "export":
            return await self._copy(held)
        if act == "erase":
            if _one(fields, "sure") != "yes":
                return self._back(write, "unsure")
            erased = await self._desk.erase(held.person, "person")
            body = write.p("erased.lead", reference=erased.reference)
            return self._page(write, "erased.title", body, cookie=ended)
        wish = self._wish(act, fields, held)
        if wish is None:
            return self._back(write, "expired")
        await self._desk.wish(held.person, wish, "person")
        return self._back(write, wish.what)

    def _wish(self, act: str, fields: Mapping[str, list[str]], held: Everything) -> Wish | None:
        """What a form declares; None if no page of ours has such a form."""
        asked = frozenset(fields.get("among", ()))
        if act == "interests":
            known = {*OFFERED, *(code.partition("-")[0] for code in held.profile.interests)}
            ticked = frozenset(fields.get("interest", ()))
            return Wish("interests", ticked & known, asked & known)
        if act == "fewer":
            advertisers = {*self._advertisers(), *held.profile.fewer_ads}
            ticked = frozenset(fields.get("advertiser", ()))
            return Wish("fewer", ticked & advertisers, asked & advertisers)
        if act == "pause":
            days = _one(fields, "days")
            return Wish("pause", days=int(days)) if days in map(str, PAUSES) else None
        if act == "resume":
            return Wish("resume")
        if act == "object":
            return Wish("object")
        return Wish("allow") if act == "allow" else None

    async def _enter(self, code: str, write: Writer) -> Answer:
        try:
            person = await self._desk.redeem(code)
        except NotFound:
            return self._back(write, "code")
        return self._back(write, "", self._open(person)[1])

    async def _copy(self, held: Everything) -> Answer:
        names = self._catalogue().names
        document = await self._desk.export(held.person, names, "person")
        body = await asyncio.to_thread(_indented, document)
        return Answer(
            200,
            body,
            {
                **HEADERS,
                "Content-Type": "application/json; charset=utf-8",
                "Content-Disposition": 'attachment; filename="my-data.json"',
            },
        )

    async def _visitor(self, visit: Visit) -> Visitor:
        """Who is there: by an open session, or else by our first-party cookie."""
        carried = cookies(visit.headers.get("Cookie", ""))
        value = carried.get(cookie_name(self._secure), "")
        session = self._seals.opened(value, self._wall()) if value else None
        try:
            if session is not None:
                return Visitor(await self._desk.find(session.person), session)
            ours = carried.get(OUR_COOKIE, "")
            if not ours:
                return NOBODY
            held = await self._desk.find(f"cookie:{ours}")
        except NotFound:
            return Visitor(None, None, set_cookie("", 0, self._secure) if session else "")
        return Visitor(held, *self._open(held.person))

    def _open(self, person: str) -> tuple[Session, str]:
        """A new session, and the header that sets its cookie."""
        life = self._rights.session
        session, value = self._seals.session(person, self._wall() + life)
        return session, set_cookie(value, life, self._secure)

    def _from_here(self, headers: Mapping[str, str]) -> bool:
        """Whether a form was sent by a page of our own, as far as the browser says."""
        site = headers.get("Sec-Fetch-Site")
        if site is not None and site != "same-origin":
            return False
        origin = headers.get("Origin")
        return origin is None or urlsplit(origin).netloc in (self._host, headers.get("Host"))

    def _in_full(self, name: str) -> str:
        """``Maison Lumen (maison-lumen.example)``."""
        advertiser = self._advertisers().get(name)
        return f"{called(name)} ({advertiser.domain})" if advertiser is not None else called(name)

    def _advertisers(self) -> dict[str, Advertiser]:
        found = self._catalogue().advertisers
        return {advertiser.id: advertiser for advertiser in found if advertiser.active}

    def _page(
        self, write: Writer, title: str, body: str, status: int = 200, cookie: str = ""
    ) -> Answer:
        foot = []
        if self._rights.company:
            foot.append(write.say("foot.who", company=self._rights.company))
        if self._rights.contact:
            foot.append(write.say("foot.contact", contact=self._rights.contact))
        foot.append(write.say("foot.cnil"))
        headers = {**HEADERS, "Content-Language": write.language}
        if cookie:
            headers["Set-Cookie"] = cookie
        return Answer(status, write.page(title, body, foot), headers)

    def _sorry(self, write: Writer, status: int, key: str) -> Answer:
        answer = self._page(write, "error.title", write.told(key, warned=True), status)
        return replace(answer, headers={**answer.headers, "Retry-After": "30"})

    def _back(self, write: Writer, done: str, cookie: str = "") -> Answer:
        """303 to the page (RFC 9110 §15.4.4), which says what was done."""
        location = f"/me?lang={write.language}" + (f"&done={done}" if done else "")
        headers = {**HEADERS, "Location": location}
        if cookie:
            headers["Set-Cookie"] = cookie
        return Answer(303, b"", headers)


def _writer(visit: Visit, query: Mapping[str, str]) -> Writer:
    wanted = query.get("lang", "")
    language = next((code for code in LANGUAGES if code == wanted), None)
    kept = {name: value for name, value in query.items() if name == "t"}
    return Writer(language or chosen(visit.headers.get("Accept-Language", "")), visit.path, kept)


def _one(fields: Mapping[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[0]


def _span(seconds: int) -> str:
    """How long a code lasts, in words that both languages share."""
    return f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds // 60} min"


def _indented(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
