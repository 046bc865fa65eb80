"""Exchange profiles: deadlines, who is admitted, and reading the files."""

from base64 import urlsafe_b64encode
from ipaddress import ip_network
from pathlib import Path

import pytest

from bidder.exchanges.loading import InvalidExchanges, load, names
from bidder.exchanges.profile import Exchange
from bidder.openrtb.prices import encrypt, read_price

SHIPPED = Path(__file__).parents[2] / "config/exchanges"
KEY = urlsafe_b64encode(bytes(32)).decode()
SECRETS = {
    f"{name}_PATH_SECRET": "0123456789abcdef" for name in ("GOOGLE", "XANDR", "INDEX", "SMAATO")
} | {"GOOGLE_PRICE_ENCRYPTION_KEY": KEY, "GOOGLE_PRICE_INTEGRITY_KEY": KEY.rstrip("=")}


@pytest.mark.parametrize(
    ("exchange", "tmax_ms", "milliseconds"),
    [
        (Exchange("x"), None, 90),
        (Exchange("x"), 200, 190),
        (Exchange("x", tmax_ms=300, margin_ms=20), None, 280),
        (Exchange("x", deadline_ms=80), 200, 70),
        (Exchange("x", deadline_ms=80), 50, 40),
        (Exchange("x"), 5, 0),
    ],
)
def test_deadline(exchange: Exchange, tmax_ms: int | None, milliseconds: int) -> None:
    assert exchange.deadline(1000.0, tmax_ms) == pytest.approx(1000.0 + milliseconds / 1000)


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_loopback_only(address: str, admitted: bool) -> None:
    assert Exchange("demo", loopback_only=True).admits(address, "") is admitted


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("192.0.3.7", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("x", False),
    ],
)
def test_allowed_networks(address: str, admitted: bool) -> None:
    networks = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert Exchange("x", allow_from=networks).admits(address, "") is admitted


@pytest.mark.parametrize(
    ("secret", "admitted"), [("s3cret", True), ("", False), ("s3cre", False), ("é", False)]
)
def test_a_secret_path(secret: str, admitted: bool) -> None:
    assert Exchange("x", secret="s3cret").admits("192.0.2.1", secret) is admitted
    assert not Exchange("x").admits("192.0.2.1", "surplus")


def test_every_rule_counts() -> None:
    both = Exchange("x", secret="s", loopback_only=True)
    assert both.admits("127.0.0.1", "s")
    assert not both.admits("127.0.0.1", "")
    assert not both.admits("192.0.2.1", "s")


def test_the_price_macro_stands_where_the_exchange_fills_it_in() -> None:
    exchange = Exchange("x", price_macro="%%P%%", price_in=frozenset({"adm"}))
    assert exchange.price_parameter("adm") == "%%P%%"
    assert exchange.price_parameter("burl") == ""


def test_the_shipped_profiles_load_without_keys_and_only_demo_is_active() -> None:
    shipped = load(SHIPPED, {})
    assert [name for name, each in shipped.items() if not each.paused] == ["demo"]
    assert shipped["demo"].loopback_only
    assert names(SHIPPED) == ["demo", "google", "index", "smaato", "xandr"]


@pytest.fixture
def all_active(tmp_path: Path) -> dict[str, Exchange]:
    """The shipped profiles as they are once somebody has contracts."""
    for path in SHIPPED.glob("*.yaml"):
        text = path.read_text().replace("status: paused", "status: active")
        text = text.replace("in: [nurl]\nbilling_notices: false", "in: [nurl, burl]")
        (tmp_path / path.name).write_text(text.replace('seat: ""', 'seat: "123"'))
    return load(tmp_path, SECRETS)


def test_the_shipped_profiles_hold_the_facts_of_their_exchanges(
    all_active: dict[str, Exchange],
) -> None:
    google, xandr = all_active["google"], all_active["xandr"]
    assert google.price_macro == "%%WINNING_PRICE%%"
    assert google.price.keys is not None
    # Prices are of one impression, in micros: 5,000 is a CPM of 5.
    sealed = encrypt(5_000, google.price.keys, bytes(16))
    assert read_price(sealed, google.price) == 5_000_000
    assert (google.max_crid_bytes, google.click_escape) == (64, True)
    assert (xandr.markup, xandr.tmax_ms, xandr.seat) == ("registered", 100, "123")
    assert all_active["smaato"].response_limit_bytes == 6144
    assert all_active["smaato"].tmax_ms == 250
    assert all_active["index"].price_parameter("burl") == "${AUCTION_PRICE}"
    assert all_active["index"].wrap_native
    assert all(exchange.secret for name, exchange in all_active.items() if name != "demo")


def test_a_paused_exchange_keeps_what_its_late_notices_need(tmp_path: Path) -> None:
    (tmp_path / "google.yaml").write_text((SHIPPED / "google.yaml").read_text())
    assert load(tmp_path, SECRETS)["google"].price.keys is not None
    assert load(tmp_path, SECRETS)["google"].paused
    assert load(tmp_path, {})["google"].price.keys is None


def problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InvalidExchanges) as caught:
        load(tmp_path, environ or {})
    return str(caught.value)


MINIMAL = "status: active\naccess: {loopback_only: true}\n"


def test_a_minimal_profile(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(MINIMAL)
    assert load(tmp_path, {}) == {"x": Exchange("x", loopback_only=True)}


def test_everything_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "x-1.yaml").write_text(
        """
status: active
seat: s
currency: GBP
auction: second
billing_notices: false
timing: {tmax_ms: 50, deadline_ms: 40, margin_ms: 4, notice_lag: 2m}
price: {macro: "${AUCTION_PRICE:B64}", in: [adm, nurl]}
clicks: {macro: "${CLICK_URL}", escape: false, escaped_macro: "${CLICK_URL_ENC}"}
answer: {gzip: false, markup: win_notice, limit_bytes: 100, max_crid_bytes: 32,
         wrap_native: true, extra: {a: 1}}
access: {allow_from: [192.0.2.0/24], secret_env: S}
"""
    )
    (exchange,) = load(tmp_path, {"S": "0123456789abcdef"}).values()
    assert exchange.name == "x-1"
    assert (exchange.seat, exchange.currency, exchange.auction) == ("s", "GBP", 2)
    assert (exchange.tmax_ms, exchange.deadline_ms, exchange.margin_ms) == (50, 40, 4)
    assert (exchange.notice_lag_seconds, exchange.billing_notices) == (120, False)
    assert exchange.price_in == {"adm", "nurl"}
    assert exchange.price.base64
    assert (exchange.click_macro, exchange.click_escape) == ("${CLICK_URL}", False)
    assert exchange.click_macro_escaped == "${CLICK_URL_ENC}"
    assert (exchange.gzip, exchange.markup) == (False, "win_notice")
    assert (exchange.response_limit_bytes, exchange.max_crid_bytes) == (100, 32)
    assert (exchange.wrap_native, exchange.extra) == (True, {"a": 1})
    assert exchange.allow_from == (ip_network("192.0.2.0/24"),)
    assert exchange.secret == "0123456789abcdef"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("access: {}", "anyone could bid"),
        ("access: {secret_env: NOT_THERE}", "NOT_THERE is not set"),
        ("access: {secret_env: SHORT}", "16 or more"),
        ("access: {allow_from: [everywhere]}", "a network such as"),
        ("access: {loopback_only: true}\nprice: {encryption: google}", "needs e_key_env"),
        (
            "access: {loopback_only: true}\n"
            "price: {encryption: google, e_key_env: NO_KEY, i_key_env: SHORT}",
            "NO_KEY is not set",
        ),
        (
            "access: {loopback_only: true}\n"
            "price: {encryption: google, e_key_env: NO_KEY, i_key_env: SHORT}",
            "SHORT: expected 32 bytes",
        ),
        (
            "access: {loopback_only: true}\n"
            "price: {encryption: google, e_key_env: TORN, i_key_env: SHORT}",
            "TORN: expected 32 bytes",
        ),
        ("access: {loopback_only: true}\nanswer: {markup: registered}", "seat"),
        ("access: {loopback_only: true}\nprice: {in: [nurl]}", "add burl"),
        ("access: {loopback_only: true}\nbilling_notices: false", "add adm"),
        (
            "access: {loopback_only: true}\nseat: x\nbilling_notices: false\n"
            "answer: {markup: registered}\nprice: {in: [adm]}",
            "no pixel of ours counts",
        ),
        ("access: {loopback_only: true}\ntiming: {tmax_ms: 20, margin_ms: 20}", "no time"),
        ("access: {loopback_only: true}\ncurrency: euro", "currency"),
        ("access: {loopback_only: true}\nclicks: {macro: '%%CLICK_URL_ESC%%'}", "unencoded"),
        ("access: {loopback_only: true}\nclicks: {macro: '${CLICK_URL_ENC}'}", "unencoded"),
        ("access: {loopback_only: true}\nprize: {}", "prize"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, more: str, said: str) -> None:
    assert said in problems(tmp_path, f"status: active\n{more}\n", {"SHORT": "abc", "TORN": "a"})


def test_a_bad_name_and_all_files_at_once(tmp_path: Path) -> None:
    (tmp_path / "Bad name.yaml").write_text(MINIMAL)
    (tmp_path / "y.yaml").write_text("status: [\n")
    said = problems(tmp_path, "status: maybe\naccess: {loopback_only: true}\n")
    assert "Bad name.yaml: the file's name" in said
    assert "y.yaml" in said
    assert "x.yaml" in said
