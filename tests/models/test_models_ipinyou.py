"""Are iPinYou's layouts read alike, is nothing learnt from the row it is for, are figures right?"""

import bz2
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.ipinyou import encoding, judging
from models.ipinyou.__main__ import main, source_rates
from models.ipinyou.loading import LOGGED, ImpressionError, Impressions, read, tags

DATA = Path(__file__).parents[2] / "../shared/data/ipinyou"
AGENT = "Mozilla/5.0 (Windows NT 6.1) AppleWebKit/537.1 (KHTML, like Gecko) Chrome/21.0 Safari/537"


def row(number: int, **given: str) -> dict[str, str]:
    """One impression as logged, with what is given."""
    return (
        dict.fromkeys(LOGGED, "null")
        | {
            "bidid": f"{number:032x}",
            "timestamp": "20131019161502142",
            "logtype": "1",
            "useragent": AGENT,
            "ip": "10.1.2.*",
            "slotwidth": "300",
            "slotheight": "250",
            "slotprice": "5",
            "bidprice": "300",
            "payprice": "54",
            "advertiser": "1458",
            "usertag": "10006,10110",
        }
        | given
    )


def simulated(count: int, seed: int = 3) -> list[dict[str, str]]:
    """People tagged for the advertiser's trade click often; the rest seldom."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        advertiser, fits = random.choice(("11", "22")), random.random() < 0.15
        trade = {"11": "11278", "22": "13042"}[advertiser if fits else "11"]
        clicked = random.random() < (0.5 if fits or (advertiser == "11" and trade == "x") else 0.03)
        known = trade if fits else random.choice(("10006", "10063", "null"))
        rows.append(
            row(
                number + seed * 1_000_000,
                advertiser=advertiser,
                usertag=known,
                click=str(int(clicked)),
                city=str(random.integers(5)),
            )
        )
    return rows


def sampled(path: Path, rows: list[dict[str, str]]) -> Path:
    """The layout with a header, as CSV."""
    names = ["click", "weekday", "hour", *LOGGED, "excel_mangled"]
    lines = [",".join(names)]
    for one in rows:
        full = {"click": "0", "weekday": "6", "hour": "16", "excel_mangled": "0"} | one
        full["IP"] = full["ip"]
        lines.append(",".join(f'"{full[n]}"' if "," in full[n] else full[n] for n in names))
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    return path


def logged(path: Path, rows: list[dict[str, str]]) -> Path:
    """The layout of the original logs."""
    lines = ["\t".join(one[name] for name in LOGGED) for one in rows]
    path.write_bytes(bz2.compress("\n".join([*lines, ""]).encode()))
    return path


def shown(impressions: Impressions) -> tuple[Any, ...]:
    columns = {name: column.tolist() for name, column in impressions.columns.items()}
    return columns, impressions.tags, impressions.click.tolist()


def test_original_logs_and_sampled_tables_read_alike(tmp_path: Path) -> None:
    rows = [row(1), row(2, usertag="null", domain="abc"), row(3)]
    log = logged(tmp_path / "imp.20131019.txt.bz2", rows)
    logged(tmp_path / "clk.20131019.txt.bz2", [row(2, logtype="2")])
    table = sampled(tmp_path / "table.csv.gz", [rows[0], rows[1] | {"click": "1"}, rows[2]])
    assert shown(read(log)) == shown(read(table)) == shown(read(tmp_path))
    found = read(log)
    assert found.click.tolist() == [False, True, False]
    assert found.columns["useragent"][0] == "windows_chrome"
    assert found.columns["weekday"][0] == "6"  # 19 October 2013 was a Saturday
    assert found.columns["domain"].tolist() == ["", "abc", ""]
    assert found.tags == [("10006", "10110"), (), ("10006", "10110")]


def test_clicks_within_a_log_are_no_impressions(tmp_path: Path) -> None:
    log = logged(tmp_path / "imp.1.txt.bz2", [row(1), row(2), row(1, logtype="2")])
    assert read(log).click.tolist() == [True, False]


def test_the_paying_price_and_the_sampling_are_not_features(tmp_path: Path) -> None:
    found = read(sampled(tmp_path / "t.csv.gz", [row(1)]))
    assert not {"payprice", "split", "src", "excel_mangled", "click"} & set(found.columns)


@pytest.mark.parametrize(
    ("text", "spoilt", "known", "count"),
    [
        ("", False, (), 0),
        ("10006", True, ("10006",), 1),
        ("10006,10110", False, ("10006", "10110"), 2),
        # 10031,10024,10075,10006 taken for a number: fifteen digits, then zeros.
        ("10,031,100,241,007,500,000", True, ("10031", "10024", "10075"), 4),
    ],
)
def test_what_a_spreadsheet_left_of_the_tags(
    text: str, spoilt: bool, known: tuple[str, ...], count: int
) -> None:
    assert tags(text, spoilt) == (known, count)


def test_a_spoilt_slot_is_unknown(tmp_path: Path) -> None:
    path = sampled(tmp_path / "t.csv.gz", [row(1, slotid="9.22E+18", excel_mangled="1")])
    assert read(path).columns["slotid"].tolist() == [""]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "empty"),
        ("a,b\n1,2\n", "neither a header"),
        ("bidid,hour\nx,1\n", "no column click"),
        ("\t".join(["x"] * 24) + "\n", "no impression|timestamp"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(ImpressionError, match=complaint):
        read(path)
    with pytest.raises(ImpressionError, match="cannot be read"):
        read(tmp_path / "gone.csv")


def test_an_encoded_rate_is_not_told_by_its_own_label(tmp_path: Path) -> None:
    rows = [row(n, city=str(n), click=str(n % 2)) for n in range(200)]
    found = read(sampled(tmp_path / "t.csv.gz", rows))
    own = encoding.rows(found)
    inside, _ = encoding.dense(own, found.click, own)
    unique = inside[:, 7 + list(encoding._RATED).index("city")]
    assert np.abs(unique).max() < 1e-12  # a city of one row says nothing about it


def test_values_not_seen_in_training_count_as_average(tmp_path: Path) -> None:
    seen = encoding.rows(read(sampled(tmp_path / "a.csv.gz", simulated(300))))
    click = read(tmp_path / "a.csv.gz").click
    new = encoding.rows(read(sampled(tmp_path / "b.csv.gz", [row(9, city="new", slotid="new")])))
    _, rates = encoding.dense(seen, click, new)
    assert rates[0, 7 + list(encoding._RATED).index("city")] == 0
    assert encoding.matrix(new.words, encoding.vocabulary(seen.words)).shape[0] == 1


def test_negatives_weigh_what_brings_back_the_rate_of_the_source() -> None:
    click = np.arange(1000) < 50
    names = np.where(np.arange(1000) % 2, "1", "2")
    weight = judging.weights(click, names, {})
    assert click.sum() / weight.sum() == pytest.approx(judging.SOURCE_RATE)
    weight = judging.weights(click, names, {"1": 0.001, "2": 0.004})
    assert weight.sum() == pytest.approx(25 / 0.001 + 25 / 0.004)
    seldom = np.arange(1000) < 5
    assert judging.weights(seldom, names, {}).tolist() == [1.0] * 1000


def test_drawn_intervals_use_the_true_auc() -> None:
    random = np.random.default_rng(1)
    click, scores = random.random(300) < 0.2, random.integers(0, 20, 300) / 20
    times = random.integers(0, 4, 300).astype(float)
    ours = judging._Ranked.of(scores).auc(click, times)
    assert ours == pytest.approx(roc_auc_score(click, scores, sample_weight=times))


def test_chi_squared_sees_a_wrong_advertiser() -> None:
    click = np.arange(1000) % 10 == 0
    names = np.where(np.arange(1000) < 500, "a", "b")
    right, wrong = np.full(1000, 0.1), np.where(names == "a", 0.05, 0.15)
    one = np.ones(1000)
    assert judging.chi_squared(click, right, one, names)["p"] == pytest.approx(1)
    assert judging.chi_squared(click, wrong, one, names)["p"] < 0.001


def test_from_files_to_figures(tmp_path: Path) -> None:
    sampled(tmp_path / "impressions.csv.gz", simulated(1600))
    other = sampled(tmp_path / "other.csv.gz", simulated(1000, seed=4) + simulated(200))
    (tmp_path / "11.prices.json").write_text('{"clk_train": 1, "imp_train": 1000}')
    assert source_rates(tmp_path) == {"11": 0.001}
    common = ["--data", str(tmp_path), "--trees", "10", "--json"]
    main([*common, str(tmp_path / "folds.json")])
    main([*common, str(tmp_path / "test.json"), "--test", str(other)])
    folds, test = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("folds", "test"))
    assert test["left_out_as_in_test"] == 200
    assert test["trained_on"] == 1400
    for figures in (folds, test):
        assert figures["auc"] > 0.65
        assert figures["auc_interval"][0] < figures["auc"] < figures["auc_interval"][1]
        # The rate of a test file is its own: it agrees only as far as its clicks are many.
        error = math.hypot(figures["calibration_standard_error"], 1 / math.sqrt(100))
        assert abs(figures["calibration"] - 1) < 3 * error
        assert set(figures["by_advertiser"]) == {"11", "22"}
        assert 0 < figures["logistic_regression"]["auc"] < 1


def test_too_few_clicks_are_said(tmp_path: Path) -> None:
    path = sampled(tmp_path / "t.csv.gz", [row(n) for n in range(50)])
    with pytest.raises(SystemExit, match="too few to learn"):
        main(["--data", str(path)])


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data/ipinyou is not here")
def test_the_sample_of_ipinyou_is_read() -> None:
    found = read(DATA / "impressions.csv.gz")
    assert (len(found), found.click.sum(), (~found.intact).sum()) == (30674, 1582, 5097)
    weight = judging.weights(found.click, found.columns["advertiser"], source_rates(DATA))
    assert 60 < weight.max() < 80


def test_a_column_that_is_missing_is_known_of_no_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lean.csv"
    path.write_text("advertiser,click,bidid,usertag\n1458,1,a,10006\n1458,0,b,null\n")
    known = read(path)
    assert known.click.tolist() == [True, False]
    assert known.columns["advertiser"].tolist() == ["1458", "1458"]
    assert set(known.columns["region"].tolist()) == {""}
    assert "without weekday, hour" in capsys.readouterr().err
    assert len(encoding.rows(known)) == 2
