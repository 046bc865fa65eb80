"""What does a page look like? HTML from values that are escaped here, once, and nowhere else.

Without scripts, so that it works everywhere and nothing on it can be made to run. One style sheet,
in the page, allowed by its hash.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from urllib.parse import urlencode

from bidder.server.pages_words import LANGUAGES, WORDS, Language

STYLE = """
:root{color-scheme:light dark;--page:#f4f5f7;--card:#fff;--text:#1d232b;--soft:#525c69;
--line:#8a94a1;--thin:#dfe3e8;--main:#0b57a4;--on-main:#fff;--good:#e3f3e7;--good-line:#1f7a38;
--bad:#fdeaea;--bad-line:#b3261e}
@media(prefers-color-scheme:dark){:root{--page:#14181d;--card:#1e242b;--text:#edf0f3;--soft:#b3bcc7;
--line:#7e8894;--thin:#38414b;--main:#8ec1f5;--on-main:#0c1a29;--good:#173322;--good-line:#7fd196;
--bad:#3b1b1b;--bad-line:#ff9a91}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);
font:1.0625rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:1rem;background:var(--card);
padding:.5rem 1rem}
header,main,footer{max-width:44rem;margin:0 auto;padding:0 1.25rem}
header{display:flex;justify-content:flex-end;padding-top:1rem}
nav ul{display:flex;gap:1rem;list-style:none;margin:0;padding:0}
nav a,nav strong{display:inline-block;padding:.35rem 0}
h1{font-size:1.9rem;line-height:1.2;margin:.75rem 0 .75rem}
h2{font-size:1.2rem;line-height:1.3;margin:0 0 .5rem}
.lead{color:var(--soft);margin:0 0 1.5rem}
section{background:var(--card);border:1px solid var(--thin);border-radius:.75rem;
padding:1.25rem 1.35rem;margin:0 0 1.25rem}
section p{margin:.25rem 0 .9rem}section p:last-child{margin-bottom:.25rem}
a{color:var(--main)}
a:focus-visible,button:focus-visible,input:focus-visible,select:focus-visible{
outline:3px solid var(--main);outline-offset:2px}
form{margin:0}form+form{margin-top:1.1rem;padding-top:1.1rem;border-top:1px solid var(--thin)}
fieldset{border:0;margin:0 0 1rem;padding:0}legend{padding:0;margin-bottom:.6rem}
.row{display:flex;flex-wrap:wrap;gap:.75rem;align-items:center}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.15rem 1.25rem}
.tick{display:flex;gap:.65rem;align-items:flex-start;padding:.35rem 0;cursor:pointer}
.tick input{width:1.25rem;height:1.25rem;margin:.17rem 0 0;flex:none;accent-color:var(--main)}
label.name{display:block;font-weight:600;margin-bottom:.3rem}
input[type=text],select{font:inherit;color:inherit;background:var(--card);
border:1px solid var(--line);border-radius:.5rem;padding:.55rem .75rem;max-width:100%}
input[type=text]{width:17rem;letter-spacing:.05em;text-transform:uppercase}
button{font:inherit;font-weight:600;border:1px solid var(--main);border-radius:.5rem;
padding:.55rem 1.1rem;background:var(--main);color:var(--on-main);cursor:pointer}
button.quiet{background:transparent;color:var(--main)}
button.grave{background:transparent;color:var(--bad-line);border-color:var(--bad-line)}
.hint{color:var(--soft);font-size:.95rem}
dl{display:grid;grid-template-columns:minmax(9rem,13rem) 1fr;gap:.55rem 1.25rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}dd ul{margin:0;padding-left:1.1rem}
.told{border:1px solid var(--good-line);border-left-width:.4rem;background:var(--good);
border-radius:.5rem;padding:.7rem 1rem;margin:0 0 1.25rem}
.warned{border-color:var(--bad-line);background:var(--bad)}
main>form{margin:0 0 1.5rem}
footer{color:var(--soft);font-size:.95rem;padding-bottom:2.5rem}footer p{margin:.3rem 0}
@media(max-width:34rem){dl{grid-template-columns:1fr;gap:.1rem}dd{margin-bottom:.6rem}
h1{font-size:1.6rem}section{padding:1.05rem}button{width:100%}.row>*{flex:1 1 auto}}
"""
STYLE_HASH = "sha256-" + b64encode(sha256(STYLE.encode()).digest()).decode()

HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src '{STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "browsing-topics=(), geolocation=(), camera=(), microphone=()",
    "Vary": "Accept-Language, Cookie",
}


_ESCAPED: Mapping[Language, Mapping[str, str]] = {
    language: {key: escape(sentence) for key, sentence in words.items()}
    for language, words in WORDS.items()
}


class Writer:
    """Writes the parts of one page in one language. Whatever it is given as text is escaped."""

    def __init__(self, language: Language, path: str, query: Mapping[str, str]) -> None:
        """`path` and `query`: of this page, for the links to its other languages."""
        self.language = language
        self._path = path
        self._query = query
        self._words = WORDS[language]
        self._escaped = _ESCAPED[language]

    def say(self, key: str, **names: object) -> str:
        """A sentence as HTML, its names filled in."""
        if not names:
            return self._escaped[key]
        safe = {name: escape(str(value)) for name, value in names.items()}
        return self._escaped[key].format(**safe)

    def words(self, key: str) -> str:
        """A sentence without names as it is, to be filled into another."""
        return self._words[key]

    def page(self, title: str, body: str, foot: Iterable[str]) -> bytes:
        """The whole document; `title` is the key of a sentence, `body` and `foot` are HTML."""
        heading = self.say(title)
        notes = "".join(f"<p>{line}</p>" for line in foot)
        return (
            f'<!doctype html>\n<html lang="{self.language}"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{heading}</title><style>{STYLE}</style></head><body>"
            f'<a class="skip" href="#content">{self.say("nav.skip")}</a>'
            f"<header>{self._languages()}</header>"
            f'<main id="content"><h1>{heading}</h1>{body}</main>'
            f"<footer>{notes}</footer></body></html>\n"
        ).encode()

    def section(self, title: str, *parts: str) -> str:
        """A card with a heading."""
        name = title.replace(".", "-")
        return (
            f'<section aria-labelledby="{name}"><h2 id="{name}">{self.say(title)}</h2>'
            f"{''.join(parts)}</section>"
        )

    def p(self, key: str, kind: str = "", **names: object) -> str:
        """A paragraph."""
        style = f' class="{kind}"' if kind else ""
        return f"<p{style}>{self.say(key, **names)}</p>"

    def told(self, key: str, *, warned: bool = False, **names: object) -> str:
        """What became of what was asked; read out by screen readers."""
        kind, role = ("told warned", "alert") if warned else ("told", "status")
        return f'<p class="{kind}" role="{role}">{self.say(key, **names)}</p>'

    def form(self, act: str, token: str, inside: str, button: str, kind: str = "") -> str:
        """A form that asks for `act`."""
        style = f' class="{kind}"' if kind else ""
        return (
            f'<form method="post" action="/me?lang={self.language}">'
            f'<input type="hidden" name="act" value="{escape(act)}">'
            f'<input type="hidden" name="token" value="{escape(token)}">'
            f"{inside}<button{style}>{self.say(button)}</button></form>"
        )

    def ticks(
        self, name: str, legend: str, choices: Iterable[tuple[str, str, bool]], kind: str = "grid"
    ) -> str:
        """Boxes to tick: value, label, ticked. What was asked about goes along, see `among`."""
        rows = []
        for value, label, ticked in choices:
            on = " checked" if ticked else ""
            rows.append(
                f'<input type="hidden" name="among" value="{escape(value)}">'
                f'<label class="tick"><input type="checkbox" name="{name}" '
                f'value="{escape(value)}"{on}><span>{escape(label)}</span></label>'
            )
        return (
            f'<fieldset><legend>{self.say(legend)}</legend><div class="{kind}">'
            f"{''.join(rows)}</div></fieldset>"
        )

    def facts(self, rows: Iterable[tuple[str, str]]) -> str:
        """Names and values, both HTML."""
        inside = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
        return f"<dl>{inside}</dl>"

    def items(self, lines: Iterable[str]) -> str:
        """A list; the lines are HTML."""
        return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"

    def link(self, path: str, key: str) -> str:
        """A link to another page of ours, in this language."""
        return f'<a href="{escape(path)}?lang={self.language}">{self.say(key)}</a>'

    def _languages(self) -> str:
        rows = []
        for code, name in LANGUAGES.items():
            if code == self.language:
                rows.append(f'<li><strong aria-current="true" lang="{code}">{name}</strong></li>')
            else:
                href = f"{self._path}?{urlencode({**self._query, 'lang': code})}"
                rows.append(
                    f'<li><a href="{escape(href)}" lang="{code}" hreflang="{code}">{name}</a></li>'
                )
        return f'<nav aria-label="{self.say("nav.language")}"><ul>{"".join(rows)}</ul></nav>'
