"""Everybody can read the pages: both languages, contrast, names escaped, a browser."""

import re
import shutil
import subprocess
from pathlib import Path
from string import Formatter
from typing import Any

import msgspec
import pytest

from bidder.person import Profile
from bidder.server.pages import OUR_COOKIE
from bidder.server.pages_html import STYLE
from bidder.server.pages_words import EN, FR, LANGUAGES, OFFERED, category, chosen
from bidder.store import keys
from bidder.store.links import Links

COOKIE = "jo-cookie-0123456789ab"


def test_both_languages_say_the_same() -> None:
    assert EN.keys() == FR.keys()
    for key, sentence in EN.items():
        names = [
            {name for _, name, _, _ in Formatter().parse(text) if name}
            for text in (sentence, FR[key])
        ]
        assert names[0] == names[1], key
    for language in LANGUAGES:
        assert all(category(code, language) != code for code in OFFERED)


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"), ("fr", "fr"), ("fr-CA,en;q=0.8", "fr"), ("de,fr;q=0.5,en;q=0.4", "fr"),
        ("de", "en"), ("fr;q=0,en;q=0.1", "en"), ("*", "en"), ("fr;q=x", "en"), (";;,,=", "en"),
    ],
)  # fmt: skip
def test_the_language_asked_for(accept: str, language: str) -> None:
    assert chosen(accept) == language


@pytest.mark.parametrize("language", ["en", "fr"])
async def test_accessible(site: Any, jo: str, language: str, parsed: Any, visiting: Any) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    page = await site.get(f"/me?lang={language}")
    assert page.all("html") == [{"lang": language}]
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1
    ids = [given["id"] for _, given in page.tags if "id" in given]
    assert len(ids) == len(set(ids))
    for given in page.all("section"):
        assert given["aria-labelledby"] in ids
    for given in page.all("label"):
        assert given.get("for") in ids or given.get("class") == "tick"
    assert {given["lang"] for given in page.all("a") if "hreflang" in given} == {"en", "fr"} - {
        language
    }
    stranger = parsed((await visiting(site.pages).visit("GET", "/me")).body)
    (code,) = [given for given in stranger.all("input") if given.get("type") == "text"]
    assert code["id"] in {given.get("for") for given in stranger.all("label")}


def test_contrast() -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text, in the light and in the dark."""
    for block in re.findall(r":root\{([^}]*)\}", STYLE):
        colours = dict(re.findall(r"--([\w-]+):(#[0-9a-f]{3,6})", block.replace("\n", "")))
        for front, back in (
            ("text", "page"), ("text", "card"), ("soft", "page"), ("soft", "card"),
            ("main", "card"), ("main", "page"), ("on-main", "main"), ("bad-line", "card"),
            ("text", "good"), ("text", "bad"),
        ):  # fmt: skip
            assert contrast(colours[front], colours[back]) >= 4.5, (front, back)


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(sign * 2 for sign in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


async def test_names_are_escaped_wherever_they_stand(
    site: Any, links: Links, jo: str, parsed: Any
) -> None:
    site.cookies[OUR_COOKIE] = COOKIE
    nasty = "<script>alert(1)</script>"
    profile = Profile(
        segments={nasty: 5}, stage=nasty, interests={nasty: 5}, fewer_ads=frozenset({nasty}),
        consent="C", consent_source=nasty, consent_time=5,
    )  # fmt: skip
    await links.bulk([("SET", keys.profile(jo), msgspec.msgpack.encode(profile), "EX", 99)])
    answer = await site.visit("GET", "/me")
    assert not parsed(answer.body).all("script")
    assert b"<script" not in answer.body.lower()
    answer = await site.visit("GET", '/me?lang="><script>&done=<script>')
    assert b"<script" not in answer.body.lower()


@pytest.mark.parametrize(("language", "size"), [("en", "1100,900"), ("fr", "390,844")])
async def test_a_browser_draws_it(
    site: Any, jo: str, tmp_path: Path, language: str, size: str
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium here: the pages are not drawn")
    site.cookies[OUR_COOKIE] = COOKIE
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    page.write_bytes((await site.visit("GET", f"/me?lang={language}")).body)
    draw(chromium, page, shot, size, tmp_path / "profile")
    header = shot.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20], "big") == int(size.partition(",")[0])
    assert shot.stat().st_size > 10_000  # an empty page is far smaller


def draw(chromium: str, page: Path, shot: Path, size: str, profile: Path) -> None:
    subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={profile}", f"--screenshot={shot}",
            f"--window-size={size}", page.as_uri(),
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
