"""Native: reading any request, and answering what it asks."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.campaigns.catalogue import NativeAsset
from bidder.creatives.markup import UnsafeUrl, Urls
from bidder.creatives.native import answer, meets, parse, shorten

CORPUS = Path(__file__).parents[2] / "../shared/corpus"
needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason="../shared/corpus is absent")
URLS = Urls("https://t.example/i", "https://t.example/c", "https://t.example/why")
AD = NativeAsset(
    title="Your basket is waiting",
    description="Three lamps you liked are still in it.",
    sponsored_by="Maison Lumen",
    cta="Finish",
    image_url="https://cdn.example/main.jpg",
    image_width=1200,
    image_height=627,
    icon_url="https://cdn.example/icon.png",
    icon_width=80,
    icon_height=80,
)
DOMAIN = "maison-lumen.example"


def ask(*assets: dict[str, Any], **fields: Any) -> str:
    return json.dumps({"ver": "1.2", "assets": list(assets), **fields})


def answered(text: str, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer(text, AD, URLS, DOMAIN, **options))
    return found


def give(asset: dict[str, Any]) -> Any:
    """What is given for one asset, None if nothing."""
    text = ask({"id": 9, "required": 0, "title": {"len": 0}}, {"id": 7, **asset})
    found = [given for given in answered(text)["assets"] if given["id"] == 7]
    return found[0] if found else None


def test_a_whole_answer() -> None:
    text = ask(
        {"id": 1, "required": 1, "title": {"len": 90}},
        {"id": 2, "required": 1, "img": {"type": 3, "wmin": 600, "hmin": 300}},
        {"id": 3, "img": {"type": 1, "w": 80, "h": 80}},
        {"id": 4, "data": {"type": 1}},
        {"id": 5, "required": 1, "data": {"type": 2, "len": 90}},
        {"id": 6, "data": {"type": 12}},
        {"id": 7, "data": {"type": 3}},
        {"id": 8, "video": {"mimes": ["video/mp4"]}},
        {"id": 0, "data": {"type": 11}},
        eventtrackers=[{"event": 1, "methods": [1, 2]}],
        privacy=1,
    )
    assert answered(text) == {
        "ver": "1.2",
        "assets": [
            {"id": 1, "title": {"text": "Your basket is waiting"}},
            {"id": 2, "img": {"url": "https://cdn.example/main.jpg", "w": 1200, "h": 627}},
            {"id": 3, "img": {"url": "https://cdn.example/icon.png", "w": 80, "h": 80}},
            {"id": 4, "data": {"value": "Maison Lumen"}},
            {"id": 5, "data": {"value": "Three lamps you liked are still in it."}},
            {"id": 6, "data": {"value": "Finish"}},
            {"id": 0, "data": {"value": DOMAIN}},
        ],
        "link": {"url": URLS.click},
        "eventtrackers": [{"event": 1, "method": 1, "url": URLS.impression}],
        "privacy": URLS.why,
    }


@pytest.mark.parametrize(
    "trackers",
    [None, [], [{"event": 1, "methods": [2]}], [{"event": 2, "methods": [1]}], [{"x": 1}, 5], "x"],
)
def test_the_impression_pixel_where_no_image_event_is_asked(trackers: Any) -> None:
    found = answered(ask({"id": 1, "title": {"len": 90}}, eventtrackers=trackers))
    assert found["imptrackers"] == [URLS.impression]
    assert "eventtrackers" not in found
    assert "privacy" not in found


def test_the_root_object_of_1_0_and_1_1_is_answered_with_one() -> None:
    plain = ask({"id": 1, "title": {"len": 90}})
    wrapped = f'{{"native":{plain}}}'
    assert answered(wrapped) == {"native": answered(plain)}
    assert answered(plain, wrap=True) == {"native": answered(plain)}
    assert answered(wrapped, wrap=True) == {"native": answered(plain)}
    assert answered(json.dumps(plain)) == answered(plain)  # encoded twice


@pytest.mark.parametrize(
    ("image", "fits"),
    [
        ({}, True),
        ({"type": 3}, True),
        ({"w": 1200, "h": 627}, True),
        ({"w": 1200, "h": 628}, False),
        ({"w": 1199, "h": 627}, False),
        ({"w": 600, "h": 300, "wmin": 600, "hmin": 300}, True),
        ({"wmin": 1200, "hmin": 627}, True),
        ({"wmin": 1201}, False),
        ({"hmin": 628}, False),
        ({"w": 180, "wmin": 0, "h": 120, "hmin": 0}, True),
        ({"wmin": "600"}, True),
        ({"mimes": ["image/jpg"]}, True),
        ({"mimes": ["image/png"]}, False),
        ({"type": 1, "w": 80, "h": 80}, True),
        ({"type": 1, "wmin": 81}, False),
        ({"type": 2, "wmin": 50}, True),
    ],
)
def test_images(image: dict[str, Any], fits: bool) -> None:
    assert (give({"img": image}) is not None) == fits
    assert meets(ask({"id": 1, "required": 1, "img": image}), AD) == fits


@pytest.mark.parametrize("data", [{"type": 3}, {"type": 10}, {"type": 500}, {"type": 2, "len": 3}])
def test_data_we_do_not_have_is_left_out_or_refused(data: dict[str, Any]) -> None:
    assert give({"data": data}) is None
    assert not meets(ask({"id": 1, "required": 1, "data": data}), AD, DOMAIN)
    with pytest.raises(ValueError, match="does not meet"):
        answer(ask({"id": 1, "required": 1, "data": data}), AD, URLS)


def test_https_only_where_secure() -> None:
    text = ask({"id": 1, "title": {"len": 90}})
    plain = Urls("http://t.example/i", URLS.click, URLS.why)
    assert answer(text, AD, plain)
    assert answer(text, AD, URLS, secure=True)
    with pytest.raises(UnsafeUrl):
        answer(text, AD, plain, secure=True)
    with pytest.raises(UnsafeUrl):
        answer(text, AD, Urls(URLS.impression, "javascript:x", URLS.why))


def test_half_a_domain_is_not_shown() -> None:
    assert give({"data": {"type": 11, "len": 5}}) is None
    assert give({"data": {"type": 11, "len": 50}})["data"]["value"] == DOMAIN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "odd",
        "5",
        "null",
        "[]",
        "{}",
        '"odd"',
        '{"native":5}',
        ask(),
        ask({"id": 1, "data": {"type": 3}}),
        ask({"id": 1, "required": 1, "video": {}}),
        ask({"title": {"len": 5}, "required": 1}),
        ask({"title": {"len": 5}}),
        ask({"id": 1, "title": {"len": 90}}, {"id": "x", "required": 1}),
        ask({"id": 1, "title": {"len": 90}}, 5),  # type: ignore[arg-type]  # odd on purpose
        ask(*[{"id": i, "title": {}} for i in range(65)]),
        "[" * 100_000,
    ],
)
def test_what_cannot_be_met_or_read_is_refused(text: str) -> None:
    assert not meets(text, AD, DOMAIN)


def test_null_is_as_if_it_were_absent() -> None:
    image = {"type": 3, "w": None, "wmin": 300, "mimes": None}
    asset = {"id": 1, "required": 1, "title": None, "img": image, "data": None}
    (given,) = answered(ask(asset))["assets"]
    assert given["img"]["url"] == AD.image_url


def test_an_optional_asset_that_cannot_be_read_is_left_out() -> None:
    text = ask({"id": 1, "title": {"len": 90}}, {"id": 2, "img": "x"}, {"title": {}})
    assert [asset["id"] for asset in answered(text)["assets"]] == [1]


_words = st.lists(st.text("ab é", min_size=1, max_size=8), max_size=8).map(" ".join)


@given(_words, st.integers(0, 40))
def test_shortening(text: str, limit: int) -> None:
    """Against the obvious: of all cuts before a space with room for the ellipsis, the last."""
    if not limit or len(text) <= limit:
        assert shorten(text, limit) == text
        return
    cuts = [text[:end].rstrip() for end in range(limit) if text[end].isspace()]
    longest = max(cuts, key=len, default="")
    assert shorten(text, limit) == (f"{longest}…" if longest else "")


@pytest.mark.parametrize(
    ("limit", "short"),
    [(11, "Three lamps"), (10, "Three…"), (6, "Three…"), (5, ""), (0, "Three lamps")],
)
def test_shortening_cuts_between_words(limit: int, short: str) -> None:
    assert shorten("Three lamps", limit) == short


def test_shortening_leaves_no_comma_before_the_ellipsis() -> None:
    assert shorten("Lamps, chairs", 9) == "Lamps…"


@given(st.text())
def test_any_text_is_a_request_or_none(text: str) -> None:
    found = parse(text)
    assert found is None or found.assets


@needs_corpus
def test_no_native_request_of_the_corpus_breaks_anything() -> None:
    import jsonschema

    schema = json.loads((CORPUS / "schema/BidResponse-2.6-from-proto.schema.json").read_text())
    validator = jsonschema.Draft202012Validator({**schema, "$ref": "#/$defs/NativeResponse"})
    met = 0
    for line in (CORPUS / "openrtb/native_requests.jsonl").read_text().splitlines():
        for text in (line, _unquoted(line)):
            if meets(text, AD, DOMAIN):
                found = answered(text)
                request = parse(text)
                assert request is not None
                assert ("native" in found) == request.wrapped
                validator.validate(found.get("native", found))
                met += text == line
    assert met >= 20


def _unquoted(line: str) -> str:
    value = json.loads(line)
    return value if isinstance(value, str) else line
