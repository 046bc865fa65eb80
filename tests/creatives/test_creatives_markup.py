"""Markup, read back by a parser: everything arrives as it was meant, and nothing breaks out."""

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.campaigns.catalogue import Creative
from bidder.creatives.markup import UnsafeUrl, Urls, banner, click_url, encoded_click_url
from bidder.exchanges.profile import Exchange

DEMO = Exchange(name="demo")
GOOGLE = Exchange(
    name="google", click_macro="%%CLICK_URL_UNESC%%", click_macro_escaped="%%CLICK_URL_ESC%%"
)
RAW = Exchange(name="raw", click_macro="${CLICK}", click_escape=False)
URLS = Urls(
    impression="https://t.example/i?t=abc&p=${AUCTION_PRICE}",
    click="https://t.example/c?t=abc&x=1",
    why="https://t.example/why?t=abc&l=fr",
)
SIZE = (300, 250)
Element = tuple[str, dict[str, str | None]]
Make = Callable[..., Creative]


class Reader(HTMLParser):
    """The elements, and the text of scripts, of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), "an attribute twice"
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def image(url: str = "https://cdn.example/b.jpg") -> Creative:
    return _creative(image_url=url)


def trader(html: str) -> Creative:
    return _creative(html=html)


def _creative(image_url: str = "", html: str = "") -> Creative:
    return Creative(
        id="c",
        path="a/b/l/c",
        id32=1,
        width=300,
        height=250,
        image_url=image_url,
        html=html,
        native=None,
        click_url="https://shop.example",
    )


def test_an_image_banner() -> None:
    read = Reader(banner(image(), SIZE, URLS, DEMO))
    assert [tag for tag, _ in read.elements] == ["div", "a", "img", "a", "img"]
    click, why = read.all("a")
    shown, pixel = read.all("img")
    assert (click["href"], why["href"]) == (URLS.click, URLS.why)
    assert (shown["src"], shown["width"], shown["height"]) == (
        "https://cdn.example/b.jpg",
        "300",
        "250",
    )
    assert (pixel["src"], pixel["width"], pixel["height"]) == (URLS.impression, "1", "1")
    assert all(link["target"] == "_blank" and link["rel"] == "noopener" for link in (click, why))


def test_macros_of_the_exchange_stay_whole_in_the_markup() -> None:
    assert "${AUCTION_PRICE}" in banner(image(), SIZE, URLS, DEMO)
    assert "${AUCTION_PRICE}" in banner(trader("<b></b>"), SIZE, URLS, DEMO)


def test_the_click_passes_the_exchange_first() -> None:
    encoded = "https%3A%2F%2Ft.example%2Fc%3Ft%3Dabc%26x%3D1"
    assert click_url(URLS.click, DEMO) == URLS.click
    assert click_url(URLS.click, GOOGLE) == "%%CLICK_URL_UNESC%%" + encoded
    assert click_url(URLS.click, RAW) == "${CLICK}" + URLS.click
    link = Reader(banner(image(), SIZE, URLS, GOOGLE)).all("a")[0]
    assert link["href"] == "%%CLICK_URL_UNESC%%" + encoded


def test_an_encoded_click_decodes_to_the_click() -> None:
    assert unquote(encoded_click_url(URLS.click, DEMO)) == URLS.click
    sent = encoded_click_url(URLS.click, GOOGLE)
    counter = "https://google.example/aclk?adurl="
    filled = sent.replace("%%CLICK_URL_ESC%%", quote(counter, safe=""))
    assert unquote(filled) == counter + quote(URLS.click, safe="")
    raw = Exchange(name="x", click_macro_escaped="${E}", click_escape=False)
    assert encoded_click_url(URLS.click, raw) == "${E}" + quote(URLS.click, safe="")


@pytest.mark.parametrize("html", ["<b>hello</b>", "<!-- x --><b>hello</b>"])
def test_a_fragment_gets_a_frame_with_pixel_and_why_link(html: str) -> None:
    read = Reader(banner(trader(html), SIZE, URLS, DEMO))
    assert [tag for tag, _ in read.elements] == ["div", "img", "a", "b"]
    assert read.all("img")[0]["src"] == URLS.impression
    assert read.all("a")[0]["href"] == URLS.why
    assert "hello" in read.text


@pytest.mark.parametrize(
    ("html", "order"),
    [
        ("<!DOCTYPE html><html><body class=x><b>h</b></body></html>", ["html", "body", "img", "a"]),
        ("<html><b>h</b></html>", ["html", "b", "img", "a"]),
        ("<html><b>h</b></body></html>", ["html", "b", "img", "a"]),
    ],
)
def test_a_document_gets_them_in_its_body(html: str, order: list[str]) -> None:
    markup = banner(trader(html), SIZE, URLS, DEMO)
    assert [tag for tag, _ in Reader(markup).elements][: len(order)] == order
    assert markup.startswith(html[:6])


def test_a_tag_left_open_does_not_swallow_the_pixel() -> None:
    read = Reader(banner(trader("<script>never closed"), SIZE, URLS, DEMO))
    assert read.all("img")[0]["src"] == URLS.impression


def test_the_traders_macros() -> None:
    html = (
        '<a id=1 href="${CLICK_URL}">x</a><a id=2 href="https://o.example/?to=${CLICK_URL_ENC}">'
        "<img id=3 src='https://o.example/${CACHEBUSTER}'><a id=4 href=${WHY_URL}>w</a>"
        "<script>go('${CLICK_URL}')</script>${AUCTION_ID}"
    )
    read = Reader(banner(trader(html), SIZE, URLS, DEMO))
    by_id = {found["id"]: found for _, found in read.elements if "id" in found}
    assert by_id["1"]["href"] == URLS.click
    target = by_id["2"]["href"]
    assert target is not None
    assert unquote(target.removeprefix("https://o.example/?to=")) == URLS.click
    assert by_id["4"]["href"] == URLS.why
    number = by_id["3"]["src"]
    assert number is not None
    assert number.removeprefix("https://o.example/").isdigit()
    assert f"go('{URLS.click}')" in read.text
    assert "${AUCTION_ID}" in "".join(read.text)
    assert sum(found["href"] == URLS.why for found in read.all("a")) == 1  # it brought its own


def test_the_cachebuster_changes_with_the_bid() -> None:
    other = Urls(impression=URLS.impression + "1", click=URLS.click, why=URLS.why)
    html = trader("<i>${CACHEBUSTER}</i>")

    def number(urls: Urls) -> str:
        return banner(html, SIZE, urls, DEMO).partition("<i>")[2].partition("</i>")[0]

    assert number(URLS).isdigit()
    assert number(URLS) == number(URLS) != number(other)


def test_a_value_that_holds_a_macro_is_not_expanded() -> None:
    urls = Urls(impression=URLS.impression, click="https://t.example/${WHY_URL}", why=URLS.why)
    read = Reader(banner(trader('<a id=1 href="${CLICK_URL}">'), SIZE, urls, DEMO))
    assert read.all("a")[-1]["href"] == "https://t.example/${WHY_URL}"


BAD = [
    "javascript:alert(1)",
    "//t.example",
    "ftp://t.example",
    "",
    "data:text/html,x",
    " https://x",
]


@pytest.mark.parametrize("url", BAD)
@pytest.mark.parametrize("place", ["impression", "click", "why"])
def test_only_web_addresses(url: str, place: str) -> None:
    urls = {"impression": URLS.impression, "click": URLS.click, "why": URLS.why, place: url}
    for creative in (image(), trader("<b></b>")):
        with pytest.raises(UnsafeUrl):
            banner(creative, SIZE, Urls(**urls), DEMO)


def test_https_only_where_secure() -> None:
    plain = Urls(impression="http://t.example/i", click=URLS.click, why=URLS.why)
    assert banner(image(), SIZE, plain, DEMO)
    assert banner(image("http://cdn.example/b.jpg"), SIZE, URLS, DEMO)
    assert banner(image(), SIZE, URLS, DEMO, secure=True)
    with pytest.raises(UnsafeUrl):
        banner(image(), SIZE, plain, DEMO, secure=True)
    with pytest.raises(UnsafeUrl):
        banner(image("http://cdn.example/b.jpg"), SIZE, URLS, DEMO, secure=True)


_nasty = st.text(
    st.sampled_from("\"'<>&;` =/\\\n\r\t\x00é%${}()[]#copylt") | st.characters(codec="utf-8"),
    max_size=30,
)
_url = _nasty.map("https://t.example/{}".format)


@settings(max_examples=60)
@given(_url, _url, _url, _url)
def test_no_url_breaks_out_of_an_image_banner(a: str, b: str, c: str, d: str) -> None:
    markup = banner(image(a), SIZE, Urls(impression=b, click=c, why=d), DEMO)
    read = Reader(markup)
    assert [tag for tag, _ in read.elements] == ["div", "a", "img", "a", "img"]
    assert [link["href"] for link in read.all("a")] == [c, d]
    assert [shown["src"] for shown in read.all("img")] == [a, b]
    assert read.text == ["i"]


PLACES = ['<p q="${CLICK_URL}">', "<p q='${CLICK_URL}'>", "<p q=${CLICK_URL}>", "<p>${CLICK_URL}"]


@settings(max_examples=60)
@given(_url, st.sampled_from(PLACES), st.sampled_from([DEMO, GOOGLE]))
def test_no_url_breaks_out_of_the_traders_html(url: str, html: str, exchange: Exchange) -> None:
    urls = Urls(impression=URLS.impression, click=url, why=URLS.why)
    read = Reader(banner(trader(html), SIZE, urls, exchange))
    assert [tag for tag, _ in read.elements] == ["div", "img", "a", "p"]
    found = read.all("p")[0].get("q") or "".join(read.text[1:])
    assert unquote(found) == unquote(click_url(url, exchange))


@settings(max_examples=60)
@given(_url, st.sampled_from("'\"`"))
def test_no_url_breaks_out_of_a_scripts_string(url: str, mark: str) -> None:
    urls = Urls(impression=URLS.impression, click=url, why=URLS.why)
    html = f"<script>go({mark}${{CLICK_URL}}{mark})</script><b>"
    read = Reader(banner(trader(html), SIZE, urls, DEMO))
    assert [tag for tag, _ in read.elements] == ["div", "img", "a", "script", "b"]
    (script,) = [text for text in read.text if text.startswith("go(")]
    inside = script[4:-2]
    assert not set(inside) & set("'\"`\\<>\n\r\u2028\u2029")
    assert unquote(inside) == unquote(url)


def test_pieces_of_any_kind_of_creative_are_cached_by_their_text(make_creative: Any) -> None:
    one, two = make_creative(image_url="https://a.example/1"), make_creative()
    assert banner(one, SIZE, URLS, DEMO) != banner(two, SIZE, URLS, DEMO)
    assert 'width="728"' in banner(two, (728, 90), URLS, DEMO)
