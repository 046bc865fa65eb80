"""Worlds are fixed, sourced and reproducible; their truth does what their names say."""

import json
import re
from base64 import urlsafe_b64decode
from collections import Counter
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.world import People, Truth, Visits, load_world, world_names
from loadtest.world.bodies import _ODD, Bodies
from loadtest.world.consent import RETARGETING_PURPOSES, gpp_of_american, tc_string
from loadtest.world.description import WORLDS
from loadtest.world.draws import normal, uniform
from loadtest.world.people import GRANTED, NOT_APPLYING
from loadtest.world.prices import competing_cpm, fit

CORPUS = Path(__file__).parents[2] / "../shared/corpus"
NAMES = ["repetition-harms", "repetition-helps", "repetition-neutral"]


def made(name="repetition-neutral", seed=1, count=400):
    world = load_world(name)
    return world, People(world, seed, count, world.start.timestamp())


def bodies(world, people, seed=1, views=300):
    make = Bodies(world, people)
    return [
        post for view in islice(Visits(world, people, seed), views) for post in make.posts(view)
    ]


def test_the_three_worlds():
    assert world_names() == NAMES


@pytest.mark.parametrize("path", sorted(WORLDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_number_has_its_source_or_is_called_an_assumption(path):
    covered = False
    for line in path.read_text().splitlines():
        code, _, comment = line.partition("#")
        said = bool(re.search(r"assumption|source:", comment, re.IGNORECASE))
        if not code.strip():
            covered = covered or said
            continue
        if re.search(r"(?<![\w-])\d", code.split(":", 1)[-1]):
            assert said, line


def test_worlds_differ_only_in_repetition():
    plain = [msgspec.to_builtins(load_world(name)) for name in NAMES]
    for world in plain:
        for name in ("name", "description"):
            del world[name]
        for action in ("click", "sale", "organic"):
            del world["truth"]["repetition"][action]
    assert plain[0] == plain[1] == plain[2]


def test_an_unknown_world_names_the_known_ones():
    with pytest.raises(LookupError, match="repetition-helps"):
        load_world("nowhere")


def test_a_misspelt_fact_is_refused(tmp_path):
    (tmp_path / "base.yaml").write_text((WORLDS / "base.yaml").read_text())
    text = (WORLDS / "repetition-helps.yaml").read_text().replace("gain:", "gains:")
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(msgspec.ValidationError, match="repetition"):
        load_world("odd", tmp_path)


def decoded(text):
    """An obvious reader of TC strings: one character per bit."""
    core, disclosed = (
        "".join(f"{byte:08b}" for byte in urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        for part in text.split(".")
    )

    def vendors(bits):
        if bits[16] == "0":
            return {n + 1 for n in range(int(bits[:16], 2)) if bits[17 + n] == "1"}
        count = int(bits[17:29], 2)
        assert all(bits[29 + 17 * n] == "0" for n in range(count))
        return {int(bits[30 + 17 * n : 46 + 17 * n], 2) for n in range(count)}

    assert disclosed[:3] == "001"
    return {
        "version": int(core[:6], 2),
        "updated": int(core[42:78], 2) / 10,
        "policy": int(core[132:138], 2),
        "purposes": {n + 1 for n in range(24) if core[152 + n] == "1"},
        "vendors": vendors(core[213:]),
        "disclosed": vendors(disclosed[3:]),
    }


@given(
    purposes=st.sets(st.integers(1, 24)),
    vendors=st.sets(st.integers(1, 65535), max_size=20),
    disclosed=st.sets(st.integers(1, 65535), max_size=20),
    updated=st.integers(1_600_000_000, 2_000_000_000),
)
def test_tc_strings_say_what_they_were_made_of(purposes, vendors, disclosed, updated):
    text = tc_string(updated=updated, purposes=purposes, vendors=vendors, disclosed=disclosed)
    day = updated // 86400 * 86400
    assert decoded(text) == {
        "version": 2, "updated": day, "policy": 5,
        "purposes": purposes, "vendors": vendors, "disclosed": disclosed,
    }  # fmt: skip


def test_consent_of_people_names_our_vendor():
    world, people = made()
    granted = decoded(people.granted)
    assert granted["purposes"] == RETARGETING_PURPOSES
    assert world.people.vendor_id in granted["vendors"] & granted["disclosed"]
    assert decoded(people.refused)["vendors"] == set()


def test_draws_are_uniform_and_normal():
    values = np.array([uniform(12345, channel) for channel in range(20_000)])
    assert 0 < values.min() < values.max() < 1
    assert abs(values.mean() - 0.5) < 0.01
    assert np.abs(np.histogram(values, 10, (0, 1))[0] / 2000 - 1).max() < 0.1
    normals = np.array([normal(key, 0) for key in range(20_000)])
    assert abs(normals.mean()) < 0.03
    assert abs(normals.std() - 1) < 0.02


def test_the_same_seed_makes_the_same_requests_and_another_does_not():
    first, again, other = (
        [post.body for post in bodies(*made(seed=seed), seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_views_come_in_order_at_the_asked_rate():
    world, people = made()
    views = list(islice(Visits(world, people, 1, views_per_second=0.2), 18_500))
    times = [view.time for view in views]
    assert times == sorted(times)
    day = sum(time < people.start + 86_400 for time in times)
    assert times[-1] > people.start + 86_400
    assert day / 86_400 == pytest.approx(0.2, rel=0.1)


def test_people_browse_by_their_habits():
    world, people = made(count=3000)
    hours = np.zeros(24)
    for view in islice(Visits(world, people, 1), 30_000):
        hours[int(view.time // 3600 % 24)] += 1
    assert hours[19] > 2 * hours[3]


def test_bodies_are_lawful_and_varied():
    world, people = made()
    posts = bodies(world, people, views=1500)
    for post in posts:
        assert json.loads(post.body) == post.json
    parsed = [post.json for post in posts]
    assert {post.headers["x-openrtb-version"] for post in posts} == {"2.5", "2.6"}
    assert any(post.gzip for post in posts)
    assert any("app" in r for r in parsed)
    assert any("site" in r for r in parsed)
    assert any("consent" in r["user"] for r in parsed)
    assert any("consent" in r["user"].get("ext", {}) for r in parsed)
    assert {len(r["imp"]) for r in parsed} == {1, 2, 3}
    assert any("pmp" in imp for r in parsed for imp in r["imp"])
    assert any("native" in imp for r in parsed for imp in r["imp"])
    tids = [r["source"]["tid"] for r in parsed]
    assert len(set(tids)) < len(tids), "some pages send their slots apart"
    ids = [r["id"] for r in parsed]
    assert len(set(ids)) == len(ids)


def share(found):
    found = list(found)
    return sum(found) / len(found)


def test_bodies_have_what_real_ones_have_in_the_shares_of_the_world():
    world, people = made(count=2000)
    parsed = [post.json for post in bodies(world, people, views=6000)]
    wire, places = world.wire, world.places
    imps = [imp for request in parsed for imp in request["imp"]]
    apps = [request for request in parsed if "app" in request]
    facts = [request["regs"].get("ext", {}) | request["regs"] for request in parsed]
    under_gdpr = [fact for fact in facts if fact.get("gdpr") == 1]
    banned = 1 - places.native_share
    for found, expected in (
        (share("exp" in imp for imp in imps), places.expiry_share),
        (
            share(imp.keys() & {"banner", "native"} == set() for imp in imps),
            places.video_only_share * banned,
        ),
        (share("dsa" in fact.get("ext", {}) for fact in under_gdpr), wire.dsa_share),
        (
            share("gpp" in fact for fact in under_gdpr),
            wire.gpp_share * (1 - world.people.consent.absent),
        ),
        (share(request.get("cattax") == 6 for request in parsed), wire.taxonomy.other),
        (share(request.get("cattax") == 1 for request in parsed), wire.taxonomy.named),
        (share("acat" in request for request in parsed), wire.allowed_categories_share),
        (share("bapp" in request for request in apps), wire.blocked_apps_share),
        (share("bseat" in request for request in parsed), wire.blocked_seats_share),
        (share("wlang" in request for request in parsed), wire.languages_share),
        (share("ipv6" in request["device"] for request in parsed), world.people.ipv6_share),
        (share("dnt" in request["device"] for request in parsed), world.people.do_not_track.sent),
        (share(len(request["cur"]) == 2 for request in parsed), places.two_currency_share),
    ):
        assert found == pytest.approx(expected, rel=0.4, abs=0.01)


def test_of_each_pair_of_lists_one_is_sent():
    for post in bodies(*made(), views=3000):
        for pair in ({"wseat", "bseat"}, {"acat", "bcat"}, {"wlang", "wlangb"}):
            assert len(pair & post.json.keys()) < 2
        assert ("ip" in post.json["device"]) != ("ipv6" in post.json["device"])


def test_where_two_currencies_are_taken_floors_are_in_the_second():
    parsed = [post.json for post in bodies(*made(), views=3000)]
    second = [request for request in parsed if len(request["cur"]) == 2]
    assert {tuple(request["cur"]) for request in second} <= {("EUR", "USD"), ("USD", "EUR")}
    for request in second:
        for imp in request["imp"]:
            assert imp.get("bidfloorcur", request["cur"][1]) == request["cur"][1]
    assert any("bidfloorcur" in imp for request in second for imp in request["imp"])


def test_apps_run_on_phones_and_tablets():
    world, people = made(count=2000)
    kinds = {True: Counter(), False: Counter()}
    for view in islice(Visits(world, people, 1), 6000):
        kinds[view.publisher.app][people.device(view.person, view.device).kind] += 1
    assert kinds[True].keys() == {"mobile", "tablet"}
    assert kinds[False].keys() == {"mobile", "tablet", "desktop"}
    assert 0.1 < kinds[True].total() / 6000 < 0.4


def test_gpp_says_what_the_other_signals_say():
    from bidder.privacy import gpp

    assert gpp_of_american(opted_out=True, control=True).endswith(".YA")
    world, people = made(count=2000)
    said = Counter()
    for post in bodies(world, people, views=4000):
        regs, user = (
            {**part, **part.get("ext", {})} for part in (post.json["regs"], post.json["user"])
        )
        if "gpp" not in regs:
            continue
        (section,) = regs["gpp_sid"]
        if section == 2:
            assert gpp.decode(regs["gpp"]) == {2: user["consent"]}
            said[user["consent"] == people.granted] += 1
        else:
            said[section, regs["us_privacy"], "gpc" in regs] += 1
            opted_out = regs["us_privacy"] == "1YYN"
            assert bool(gpp.opt_out(regs["gpp"], (7,))) == opted_out
            assert opted_out or "gpc" not in regs
    assert said.keys() >= {True, False, (7, "1YNN", False)}


@pytest.mark.parametrize("opted_out", [True, False])
@pytest.mark.parametrize("control", [True, False])
def test_american_gpp_strings_have_their_bits_where_the_section_has_them(opted_out, control):
    header, section = gpp_of_american(opted_out=opted_out, control=control).split("~")
    core, controls = (
        "".join(f"{byte:08b}" for byte in urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        for part in section.split(".")
    )
    assert header == "DBABLA"
    answer = "01" if opted_out else "10"
    assert core == "000001" + "01" * 4 + "0000" + answer * 3 + "0" * 30 + "10" + "0000" + "0000"
    assert controls == f"01{control:d}00000"


@pytest.mark.parametrize("style", _ODD)
def test_odd_encodings_mean_the_same(style):
    post = next(
        post for post in bodies(*made(), views=200) if "pagecat" in post.json.get("site", {})
    )
    odd = style(post.json)
    assert json.loads(odd) == post.json
    assert odd != orjson.dumps(post.json)


def test_bodies_satisfy_the_schema():
    path = CORPUS / "schema/BidRequest-2.6-from-proto.schema.json"
    if not path.exists():
        pytest.skip("../shared/corpus is absent")
    import jsonschema

    validator = jsonschema.validators.validator_for(schema := json.loads(path.read_bytes()))(schema)
    for post in bodies(*made(), views=60):
        errors = [e.message for e in validator.iter_errors(post.json)]
        assert errors == []


def test_the_crm_knows_the_ids_that_requests_carry():
    world, people = made()
    lines = [orjson.loads(line) for line in people.records("demo")]
    known = {tuple(pair) for line in lines for pair in line["ids"]}
    assert len(known) == sum(len(line["ids"]) for line in lines), "no id belongs to two people"
    make = Bodies(world, people)
    matched = total = 0
    for view in islice(Visits(world, people, 1), 2000):
        for post in make.posts(view):
            uid = post.json["user"].get("buyeruid")
            if uid and people.device(view.person, view.device).matched:
                total += 1
                matched += ("buyeruid.demo", uid) in known
    assert total > 100
    assert matched == total


def test_profiles_are_consistent():
    world, people = made()
    start = world.start.timestamp()
    for line in islice(people.records("demo"), 100):
        profile = orjson.loads(line)["profile"]
        assert all(0 < seen <= start for seen in profile["segments"].values())
        assert (profile["orders"] > 0) == ("buyer" in profile["segments"])
        assert ("baskets" in profile) == ("basket" in profile["segments"])


def test_consent_follows_the_country():
    world, people = made(count=2000)
    for person in range(people.count):
        country = world.people.countries[people.countries[people.country[person]]]
        assert (people.consent[person] == NOT_APPLYING) == (not country.gdpr)
    under = people.consent != NOT_APPLYING
    assert (people.consent[under] == GRANTED).mean() == pytest.approx(0.7, abs=0.05)


def factors(name, action):
    """Click or sale probability after 0..8 daily exposures, over the first."""
    world, people = made(name)
    truth = Truth(world, people, 1, 1)
    person = int(np.flatnonzero(people.known & (people.segments["basket"] > 0))[0])
    ad = truth.ad("maison-lumen.example", "brand", "300x250")
    found, now = [], people.start + 200 * 86_400.0  # long after, so that recency is flat
    for day in range(9):
        chance = truth.chance(person, ad, "IAB1", "desktop", now + day * 86_400)
        found.append(getattr(chance, action))
        truth.shown(person, ad.advertiser, now + day * 86_400)
    return np.array(found) / found[0]


@pytest.mark.parametrize("action", ["click", "sale"])
def test_worlds_do_what_their_names_say(action):
    assert (np.diff(factors("repetition-helps", action)) > 0).all()
    assert factors("repetition-neutral", action) == pytest.approx(1)
    harmed = factors("repetition-harms", action)
    assert (np.diff(harmed) <= 1e-12).all()
    assert harmed[-1] < 0.9


def test_spaced_ads_beat_bunched_ones():
    world, people = made("repetition-harms")
    truth = Truth(world, people, 1, 1)
    ad = truth.ad("maison-lumen.example", "brand", "300x250")
    now = float(people.start)
    for n in range(3):
        truth.shown(1, ad.advertiser, now - 60 * n)
        truth.shown(2, ad.advertiser, now - 7200 * (3 - n))
    bunched = truth.chance(1, ad, "IAB1", "desktop", now + 60)
    assert bunched.fast > 2.5
    assert truth.chance(2, ad, "IAB1", "desktop", now + 60).fast < 0.2


def test_relevance_basket_and_product_matter():
    world, people = made(count=2000)
    truth = Truth(world, people, 1, 1)
    now = float(people.start)
    basket = people.segments["basket"] > 0
    with_one, without = int(np.flatnonzero(basket)[0]), int(np.flatnonzero(~people.known)[0])
    brand = truth.ad("maison-lumen.example", "brand", "300x250")
    product = truth.ad("maison-lumen.example", "basket-300x250", "300x250")

    def click(person, ad, category="IAB1"):
        return truth.chance(person, ad, category, "desktop", now).click

    assert click(with_one, brand, "IAB10") > click(with_one, brand)
    assert click(with_one, product) > click(with_one, brand)
    assert click(without, product) < click(without, brand)


def test_who_has_just_bought_hardly_buys_again():
    world, people = made()
    truth = Truth(world, people, 1, 1)
    ad = truth.ad("maison-lumen.example", "brand", "300x250")
    now = float(people.start)
    truth.shown(3, ad.advertiser, now)
    before = truth.chance(3, ad, "IAB1", "desktop", now + 60)
    truth.bought(3, ad.advertiser, now + 3600)
    assert truth.chance(3, ad, "IAB1", "desktop", now + 60) == before, "not before it happens"
    after = truth.chance(3, ad, "IAB1", "desktop", now + 3700)
    assert after.sale < 0.2 * before.sale


def test_without_ads_organic_sales_are_the_same_in_all_worlds():
    counts = set()
    for name in NAMES:
        world, people = made(name, count=4000)
        sales = Truth(world, people, 1, 48).organic_sales(people.start + 48 * 3600)
        assert all(sale.happens == sale.without_ads for sale in sales)
        counts.add(len(sales))
    assert len(counts) == 1
    assert counts.pop() > 5


def test_competing_prices_follow_the_fit():
    prices = load_world("repetition-neutral").prices
    drawn = np.sort([competing_cpm(prices, key, 0) for key in range(20_000)]) / prices.unit_cpm
    drawn = drawn[drawn < 300.5]
    # Quantiles of the training prices of the nine iPinYou campaigns, pooled.
    for share, price in ((0.25, 33), (0.5, 70), (0.75, 101)):
        assert float(np.quantile(drawn, share)) == pytest.approx(price, rel=0.2)


def test_the_fit_recovers_known_prices():
    random = np.random.default_rng(5)
    broad, narrow = random.lognormal(4.2, 1.2, 40_000), random.lognormal(4.25, 0.2, 10_000)
    values = np.concatenate([broad, narrow]).round()
    counts = np.bincount(values[values <= 300].astype(int), minlength=301).astype(float)
    found = fit(counts)
    assert found["weights"][0] == pytest.approx(0.8, abs=0.05)
    assert found["log_means"] == pytest.approx([4.2, 4.25], abs=0.08)
    assert found["gap"] < 0.01
