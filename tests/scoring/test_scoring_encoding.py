"""Do rates stand where buckets stood, and nowhere else?"""

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.scoring import features
from bidder.scoring.encoding import Encoding, Rates
from models import encode

DOMAIN, CREATIVE = (features.NAMES.index(name) for name in ("domain", "creative"))
TABLES = {"domain": Rates(0.1, {7: 0.3, 0: 0.2}), "creative": Rates(0.5, {})}

rows = st.lists(
    st.one_of(st.integers(0, 9).map(float), st.just(nan)),
    min_size=len(features.NAMES),
    max_size=len(features.NAMES),
)


@settings(max_examples=50)
@given(rows)
def test_one_row_is_encoded_as_many_are(values: list[float]) -> None:
    got = list(Encoding(TABLES).apply(features.from_log(values)))
    np.testing.assert_array_equal(got, encode.apply(np.array([values]), TABLES)[0])
    untouched = [i for i in range(len(values)) if i not in (DOMAIN, CREATIVE)]
    np.testing.assert_array_equal(np.array(got)[untouched], np.array(values)[untouched])


def test_known_unknown_and_new_buckets() -> None:
    encoding = Encoding(TABLES)
    for bucket, rate in ((7.0, 0.3), (7, 0.3), (0.0, 0.2), (8.0, 0.1), (nan, 0.1)):
        row = tuple([bucket if at == DOMAIN else 0.0 for at in range(len(features.NAMES))])
        assert encoding.apply(row)[DOMAIN] == rate


def test_without_tables_the_row_is_as_it_was() -> None:
    row = tuple(map(float, range(len(features.NAMES))))
    assert [*Encoding({}).apply(row)] == [*row]


@pytest.mark.parametrize(
    "tables",
    [{"hour": Rates(0.1, {})}, {"domain": Rates(nan, {})}, {"domain": Rates(0.1, {1: inf})}],
)
def test_tables_that_make_no_sense(tables: dict[str, Rates]) -> None:
    with pytest.raises(ValueError, match=r"domain|hour"):
        Encoding(tables)
