"""Do the models see what the ledger says?"""

from collections.abc import Callable
from math import nan

from hypothesis import given
from hypothesis import strategies as st

from bidder.campaigns.catalogue import LineItem
from bidder.capping import Channel, Kind, Ledger, history
from bidder.person import NO_HISTORY, History

NOW = 1_788_000_000
HOUR, DAY = 3600, 86400
OWNERS = (
    {"advertiser": 20, "line_item": 40},
    {"advertiser": 20, "line_item": 41},
    {"advertiser": 21, "line_item": 42},
)

events = st.lists(
    st.tuples(
        st.one_of(st.integers(NOW - 40 * DAY, NOW), st.integers(NOW - 2 * HOUR, NOW)),
        st.sampled_from([Kind.IMPRESSION, Kind.IMPRESSION, Kind.CLICK, Kind.CONVERSION]),
        st.builds(
            lambda owner, channel: {**owner, "channel": channel},
            st.sampled_from(OWNERS),
            st.sampled_from([Channel.DISPLAY, Channel.EMAIL, Channel.PUSH]),
        ),
    ),
    max_size=25,
)


@given(events)
def test_counts_and_ages(
    make_item: Callable[..., LineItem], make_ledger: Callable[..., Ledger], what: list
) -> None:
    def times(kind: Kind, channels: set[Channel], **owner: int) -> list[int]:
        return [
            time for time, k, f in what
            if k == kind and f["channel"] in channels and all(f[n] == v for n, v in owner.items())
        ]  # fmt: skip

    def within(found: list[int], seconds: int) -> int:
        return sum(time > NOW - seconds for time in found)

    def age(found: list[int]) -> float:
        return NOW - max(found) if found else nan

    display, contacts = {Channel.DISPLAY}, {Channel.EMAIL, Channel.PUSH}
    shown = times(Kind.IMPRESSION, display, advertiser=20)
    own = times(Kind.IMPRESSION, display, line_item=40)
    sent = times(Kind.IMPRESSION, contacts, advertiser=20)
    clicks = times(Kind.CLICK, display | contacts, advertiser=20)
    sales = times(Kind.CONVERSION, display | contacts, advertiser=20)
    found = history(make_ledger(NOW, *what), make_item())
    wanted = History(
        impressions_hour=within(shown, HOUR),
        impressions_day=within(shown, DAY),
        impressions_week=within(shown, 7 * DAY),
        impressions_month=within(shown, 30 * DAY),
        line_item_impressions_day=within(own, DAY),
        line_item_impressions_week=within(own, 7 * DAY),
        clicks_month=within(clicks, 30 * DAY),
        conversions_month=within(sales, 30 * DAY),
        contacts_week=within(sent, 7 * DAY),
        since_impression=age(shown),
        since_click=age(clicks),
        since_conversion=age(sales),
        since_contact=age(sent),
        other_impressions_day=within(times(Kind.IMPRESSION, display, advertiser=21), DAY),
    )
    assert repr(found) == repr(wanted)  # in which NaN equals itself


def test_no_ledger_is_no_history(make_item: Callable[..., LineItem]) -> None:
    assert history(Ledger(b"", NOW), make_item()) is NO_HISTORY
