"""What to bid when the winner pays its own bid?

Second-price auctions get the value: bidding anything else loses. First-price auctions get less,
since the difference is ours to keep. Until a win curve is learnt from our own log, the default is a
fixed share of what the value leaves above the floor; Pan et al. 2020 report prices falling to about
55 % of the unshaded bid once it is learnt, so the default is on the careful side.
"""

FIRST_PRICE = 1
FIXED_PRICE = 3
DEFAULT_SHARE = 0.75


def shade(value_micros: int, floor_micros: int, auction: int) -> int:
    """The bid for a value, both CPM micros of one currency; 0 if the value is below the floor.

    `auction` is OpenRTB's `at` (§3.2.1; for deals §3.2.12): 1 first price, 2 second price, 3 fixed
    price at the floor. Unknown types are treated as first price. Never above the value.
    """
    if value_micros < floor_micros or value_micros <= 0:
        return 0
    if auction == FIXED_PRICE:
        return floor_micros or value_micros
    if auction == 2:
        return value_micros
    return min(
        floor_micros + max(int((value_micros - floor_micros) * DEFAULT_SHARE), 1), value_micros
    )
