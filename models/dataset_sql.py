"""In which words is DuckDB asked? The queries of `models.dataset`, and nothing else.

A staged *bid* row is a bid of the log; its features are kept only where they may train. A staged
*notice* row is a billing, impression, click or conversion, and names the person only where those
may be measured. Both lie under the day (UTC) of the bid: a notice carries the time of its bid, so
one day can be joined by itself.
"""

from bidder.scoring import features

READ = """
CREATE OR REPLACE TEMP TABLE line AS
SELECT *, strftime(make_timestamp((second * 1000000)::BIGINT), '%Y-%m-%d') AS day
FROM (
    SELECT *, floor(if(type = 'bid', time, bid_time))::BIGINT AS second
    FROM read_json($paths, format = 'newline_delimited', ignore_errors = true, columns = {
        type: 'VARCHAR', time: 'DOUBLE', bid_id: 'VARCHAR', bid_time: 'DOUBLE',
        exchange: 'VARCHAR', line_item: 'VARCHAR', creative: 'VARCHAR', person: 'VARCHAR',
        features: 'DOUBLE[]', feature_version: 'VARCHAR', train: 'BOOLEAN', model: 'VARCHAR',
        p_click: 'DOUBLE', p_conversion: 'DOUBLE', p_view: 'DOUBLE', price_cpm_micros: 'BIGINT',
        value_cpm_micros: 'BIGINT', rate: 'DOUBLE', cost_micros: 'BIGINT', bills: 'BOOLEAN',
        ids: 'BIGINT[]', "order": 'VARCHAR', value_micros: 'BIGINT', kind: 'VARCHAR',
        measure: 'BOOLEAN'
    })
)
"""
TOLD = "SELECT count(*), count(*) FILTER (type IS NULL), coalesce(max(time), 0) FROM line"
"""How many lines there were, how many of them made no sense, and the time of the latest."""

_KEEP = "coalesce(train, false) AND coalesce(person, '') <> ''"
BIDS = f"""
SELECT day, bid_id, time, coalesce(exchange, '') AS exchange, coalesce(line_item, '') AS line_item,
       if({_KEEP}, person, '') AS person, {_KEEP} AS train,
       coalesce(feature_version, '') AS feature_version,
       if({_KEEP}, features, NULL) AS features, coalesce(model, '') AS model,
       coalesce(p_click, 0) AS p_click, coalesce(p_conversion, 0) AS p_conversion,
       coalesce(p_view, 0) AS p_view,
       coalesce(value_cpm_micros, 0) * coalesce(rate, 1) / 1e6 AS value_cpm, false AS erased
FROM line WHERE type = 'bid' AND bid_id IS NOT NULL AND time IS NOT NULL
"""
NOTICES = """
SELECT day, type, bid_id, time, second AS bid_second, coalesce(line_item, '') AS line_item,
       if(measure, coalesce(person, ''), '') AS person,
       coalesce(ids[1], 0) AS advertiser_id, coalesce(ids[3], 0) AS line_item_id,
       coalesce(bills, false) AS bills, coalesce(cost_micros, 0) AS cost_micros,
       coalesce("order", '') AS "order", coalesce(value_micros, 0) AS value_micros,
       coalesce(kind, 'click') AS kind
FROM line
WHERE type IN ('billing', 'impression', 'click', 'conversion')
  AND bid_id IS NOT NULL AND time IS NOT NULL AND second IS NOT NULL
"""
COPY = """
COPY ({query}) TO '{folder}'
(FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day), FILENAME_PATTERN '{name}-{{i}}')
"""

_WITHOUT = """
COPY (SELECT {chosen}) TO '{{target}}' (FORMAT parquet, COMPRESSION zstd, KV_METADATA {version})
"""
_GONE = "(person IN (FROM gone))"
_VERSION = "{{feature_version: '" + features.VERSION + "'}}"
WITHOUT = {
    # The bid stays as one of nobody: it still counts, and what is told of it is no orphan.
    "staged/bids": _WITHOUT.format(
        chosen=f"* REPLACE (if({_GONE}, '', person) AS person, train AND NOT {_GONE} AS train, "
        f"if({_GONE}, NULL, features) AS features, erased OR {_GONE} AS erased) "
        "FROM read_parquet($path)",
        version=_VERSION,
    ),
    "staged/notices": _WITHOUT.format(
        chosen=f"* REPLACE (if({_GONE}, '', person) AS person) FROM read_parquet($path)",
        version=_VERSION,
    ),
    "rows": _WITHOUT.format(
        chosen="* FROM read_parquet($path) WHERE _person NOT IN (FROM gone) "
        "ORDER BY _time, _bid_id",
        version=_VERSION,
    ),
}
"""A file of each kind, without the people in the table `gone`."""

CREDIT = """
CREATE OR REPLACE TEMP TABLE credit
(bid_id VARCHAR, touch VARCHAR, time DOUBLE, value_micros BIGINT)
"""
SALES = """
CREATE OR REPLACE TEMP TABLE sale AS
SELECT advertiser_id, max(person) AS person, max(person) = '' OR "order" = '' AS loose,
       min(time) AS time, arg_min(bid_id, time) AS bid_id, arg_min(kind, time) AS kind,
       max(value_micros) AS value_micros, count(*) AS times
FROM read_parquet($paths) WHERE type = 'conversion'
GROUP BY advertiser_id, "order", if("order" = '', bid_id, '')
"""
"""Each purchase once, however often and by whichever ads it was told."""
CONTACTS = """
SELECT sale.rowid, contact.time, contact.type, contact.line_item_id, contact.bid_id
FROM sale JOIN (
    SELECT DISTINCT ON (bid_id, type) bid_id, type, time, person, advertiser_id, line_item_id
    FROM read_parquet($paths) WHERE type IN ('impression', 'billing', 'click')
        AND person IN (SELECT person FROM sale WHERE NOT loose)  -- few, before all are sorted
    ORDER BY time
) AS contact ON contact.person = sale.person AND contact.advertiser_id = sale.advertiser_id
WHERE NOT sale.loose AND contact.time <= sale.time
ORDER BY sale.rowid
"""
"""What each buyer had seen and clicked before."""
LOOSE = "SELECT bid_id, kind, time, value_micros FROM sale WHERE loose"
"""Purchases without a person or an order number stay with the ad that they were told of."""
TOLD_AGAIN = "SELECT count(*), coalesce(sum(times - 1), 0) FROM sale"
CREDITS_HEARD = """
SELECT * FROM credit WHERE bid_id IN (SELECT bid_id FROM read_parquet($paths)) ORDER BY ALL
"""
BOUND = "SELECT rowid, time, value_micros FROM sale WHERE NOT loose"

HEARD = """
CREATE OR REPLACE TEMP TABLE heard AS
SELECT bid_id, arg_min(cost_micros, time) FILTER (pays) AS cost_micros,
       min(time) FILTER (pays) AS billed_at,
       min(time) FILTER (type = 'impression') AS seen_at,
       min(time) FILTER (type = 'click') AS clicked_at,
       count(*) FILTER (type <> 'conversion')
           - count(DISTINCT type) FILTER (type <> 'conversion') AS repeated
FROM (
    SELECT *, type = 'billing' OR (type = 'impression' AND bills) AS pays
    FROM read_parquet($paths)
) GROUP BY bid_id
"""
TWICE = """
CREATE OR REPLACE TEMP TABLE twice AS
SELECT bid_id, count(*) AS times FROM read_parquet($paths) GROUP BY bid_id HAVING count(*) > 1
"""
COUNTS = """
SELECT (SELECT count(*) FROM read_parquet($paths)) AS bids,
       (SELECT coalesce(sum(times - 1), 0) FROM twice) AS duplicate_bids,
       (SELECT coalesce(sum(repeated), 0) FROM heard) AS duplicate_notices,
       (SELECT count(*) FROM heard
        WHERE NOT EXISTS (SELECT 1 FROM read_parquet($paths) b WHERE b.bid_id = heard.bid_id)
       ) AS orphans,
       (SELECT count(*) FROM heard WHERE billed_at IS NOT NULL) AS billed,
       (SELECT count(*) FROM heard WHERE billed_at IS NULL AND clicked_at IS NOT NULL)
           AS clicks_without_billing
"""
_FEATURES = ", ".join(
    f'features[{place}] AS "{name}"' for place, name in enumerate(features.NAMES, 1)
)
BILLED = """
CREATE OR REPLACE TEMP TABLE billed AS
SELECT * FROM (
    SELECT * FROM read_parquet($paths) AS b
    WHERE bid_id NOT IN (SELECT bid_id FROM twice)
    UNION ALL BY NAME
    (SELECT DISTINCT ON (bid_id) * FROM read_parquet($paths)
     WHERE bid_id IN (SELECT bid_id FROM twice) ORDER BY time)
) AS bid JOIN (SELECT * FROM heard WHERE billed_at IS NOT NULL) USING (bid_id)
"""
LEFT_OUT = f"""
SELECT count(*) FILTER (NOT train AND NOT erased) AS without_permission,
       count(*) FILTER (erased) AS erased,
       count(*) FILTER (train AND (feature_version <> '{features.VERSION}'
                                   OR len(features) <> {len(features.NAMES)})) AS other_features
FROM billed
"""
_ROWS = f"""
SELECT {_FEATURES},
       bid_id AS _bid_id, time AS _time, person AS _person,
       split_part(line_item, '/', 1) AS _advertiser, line_item AS _line_item,
       exchange AS _exchange, model AS _model, p_click AS _p_click, p_conversion AS _p_conversion,
       p_view AS _p_view,
       value_cpm AS _value_cpm, cost_micros / 1e3 AS _paid_cpm,
       seen_at IS NOT NULL AS _seen, clicked_at IS NOT NULL AS _click,
       clicked_at - time AS _click_delay,
       by_click IS NOT NULL AS _conversion, by_click - coalesce(clicked_at, time)
           AS _conversion_delay,
       by_view IS NOT NULL AS _view_conversion, by_view - time AS _view_delay,
       coalesce(sales_micros, 0) / 1e6 AS _sales, 1::DOUBLE AS _weight
FROM billed LEFT JOIN (
    SELECT bid_id, min(time) FILTER (touch = 'click') AS by_click,
           min(time) FILTER (touch = 'view') AS by_view, sum(value_micros) AS sales_micros
    FROM credit GROUP BY bid_id
) USING (bid_id)
WHERE train AND feature_version = '{features.VERSION}' AND len(features) = {len(features.NAMES)}
ORDER BY time, bid_id
"""
WRITE_ROWS = f"""
COPY ({_ROWS}) TO '{{target}}'
(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 65536,
 KV_METADATA {{{{feature_version: '{features.VERSION}'}}}})
"""
MADE = """
SELECT count(*) AS rows, count(*) FILTER (_click) AS clicks,
       count(*) FILTER (_conversion) AS conversions,
       count(*) FILTER (_view_conversion) AS view_conversions
FROM read_parquet($path)
"""
