"""The contract of Reader, Scripts and bulk, on one server and on a Cluster."""

import asyncio
from pathlib import Path

import hiredis
import pytest
import uvloop
from redis.asyncio import RedisCluster

from bidder.store.breaker import Breaker, StoreUnavailable
from bidder.store.coalesce import Reader, ScriptError, Scripts
from bidder.store.connect import connect
from bidder.store.embedded import EmbeddedStore
from bidder.store.links import Links, slot

ECHO = "redis.call('SET', KEYS[1], ARGV[1]); return {KEYS[1], ARGV[1], tonumber(ARGV[2])}"


@pytest.fixture
def lua(tmp_path: Path) -> Path:
    (tmp_path / "echo.lua").write_text(ECHO)
    (tmp_path / "broken.lua").write_text("return redis.call('NOSUCH')")
    return tmp_path


async def mget_calls(links: Links) -> int:
    stats = await links._client.info("commandstats")
    return int(stats.get("cmdstat_mget", {}).get("calls", 0))


async def test_everyone_gets_their_own_values(any_links: Links) -> None:
    await any_links.bulk([("SET", f"k{i}", f"v{i}") for i in range(100)])
    reader = Reader(any_links)
    wanted = [[f"k{i}", b"k%d" % (i + 1), "absent", f"k{i}"] for i in range(90)]
    found = await asyncio.gather(*[reader.get_many(keys) for keys in wanted])
    for i, values in enumerate(found):
        assert values == [b"v%d" % i, b"v%d" % (i + 1), None, b"v%d" % i]
    assert await reader.get_many([]) == []


async def test_the_reads_of_a_tick_are_one_command(links: Links) -> None:
    reader = Reader(links)
    before = await mget_calls(links)
    await asyncio.gather(*[reader.get_many([f"a{i}", f"b{i}"]) for i in range(50)])
    assert await mget_calls(links) == before + 1


async def test_who_gives_up_hurts_nobody(any_links: Links) -> None:
    await any_links.bulk([("SET", "k", "v")])
    reader = Reader(any_links)
    calls = [asyncio.ensure_future(reader.get_many(["k"])) for _ in range(9)]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.sleep(0)
    calls[1].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers[:2]] == [asyncio.CancelledError] * 2
    assert answers[2:] == [[b"v"]] * 7
    assert await reader.get_many(["k"]) == [b"v"], "and the connection is still in step"


async def test_a_key_that_cannot_be_hurts_its_own_caller(any_links: Links) -> None:
    await any_links.bulk([("SET", "k", "v")])
    reader = Reader(any_links)
    answers = await asyncio.gather(
        reader.get_many(["k"]), reader.get_many(["\ud800"]), return_exceptions=True
    )
    assert answers[0] == [b"v"]
    assert isinstance(answers[1], UnicodeEncodeError)


async def test_only_the_late_are_sent_away(any_links: Links) -> None:
    await any_links.bulk([("SET", "k", "v")])
    failed: list[str] = []
    any_links.on_error = failed.append
    reader = Reader(any_links)
    now = asyncio.get_running_loop().time()
    late, patient, relaxed = await asyncio.gather(
        reader.get_many(["k"], now - 1),
        reader.get_many(["k"], now + 60),
        reader.get_many(["k"]),
        return_exceptions=True,
    )
    # A reply may be handed out before the timer of a deadline that was past from the start;
    # `test_store_faults` stops the server.
    assert isinstance(late, StoreUnavailable) or late == [b"v"]
    assert failed == ["read"] * isinstance(late, StoreUnavailable)
    assert patient == relaxed == [b"v"]


async def test_scripts_answer_each_caller(any_links: Links, lua: Path) -> None:
    scripts = Scripts(any_links, lua)
    answers = await asyncio.gather(
        *[scripts.run("echo", [f"s{i}"], [b"\x00%d" % i, i]) for i in range(50)]
    )
    assert answers == [[b"s%d" % i, b"\x00%d" % i, i] for i in range(50)]
    reader = Reader(any_links)
    assert await reader.get_many(["s7"]) == [b"\x007"]


async def test_scripts_survive_a_server_that_forgot_them(any_links: Links, lua: Path) -> None:
    scripts = Scripts(any_links, lua)
    await scripts.run("echo", ["s"], ["1", 1])
    await any_links._client.script_flush()
    assert await scripts.run("echo", ["s"], ["2", 2]) == [b"s", b"2", 2]


async def test_a_failing_script_fails_alone(any_links: Links, lua: Path) -> None:
    failed: list[str] = []
    any_links.on_error = failed.append
    scripts = Scripts(any_links, lua)
    good, bad = await asyncio.gather(
        scripts.run("echo", ["s"], ["1", 1]),
        scripts.run("broken", ["s"], []),
        return_exceptions=True,
    )
    assert good == [b"s", b"1", 1]
    assert isinstance(bad, ScriptError)
    assert "broken" in str(bad)
    assert failed == ["broken"]
    with pytest.raises(KeyError):
        await scripts.run("nosuch", ["s"], [])
    assert not any_links.breaker.failures, "a mistake of ours says nothing of the store"


async def test_take_writes_only_where_nothing_stands(any_links: Links) -> None:
    until = 4_000_000_000
    await any_links.bulk([("SET", "t3", "mine")])
    names = [f"t{place}".encode() for place in range(300)]
    values = [b"\r\n$3\0" * place for place in range(300)]
    before = await any_links.take(names, values, [until + place for place in range(300)])
    assert before == [None] * 3 + [b"mine"] + [None] * 296
    assert await any_links.take(names[:4], values[4:8], [until] * 4) == [*values[:3], b"mine"]
    assert await any_links.take([], [], []) == []
    found = await any_links.bulk([("GET", name.decode()) for name in names])
    assert found == [*values[:3], b"mine", *values[4:]]
    assert await any_links.bulk([("EXPIRETIME", "t7"), ("EXPIRETIME", "t3")]) == [until + 7, -1]


async def test_replies_find_who_asked_also_when_all_ask_at_once(any_links: Links) -> None:
    async def one(place: int) -> list[object]:
        many = [("SET", f"k{place}-{at}", f"{place}.{at}") for at in range(50)]
        await any_links.bulk(many)
        return await any_links.bulk([("GET", f"k{place}-{at}") for at in range(50)])

    answers = await asyncio.gather(*[one(place) for place in range(8)])
    for place, answer in enumerate(answers):
        assert answer == [f"{place}.{at}".encode() for at in range(50)]


async def test_take_raises_what_is_refused(any_links: Links) -> None:
    await any_links.bulk([("LPUSH", "t-list", "x")])
    with pytest.raises(hiredis.ReplyError, match="WRONGTYPE"):
        await any_links.take([b"t-ok", b"t-list"], [b"1", b"2"], [4_000_000_000] * 2)
    assert await any_links.bulk([("GET", "t-ok")]) == [b"1"]


async def test_bulk_answers_in_order_and_refuses_nonsense(any_links: Links) -> None:
    replies = await any_links.bulk([("SET", "b1", "1"), ("GET", "b1"), ("INCR", "b2")])
    assert replies == [b"OK", b"1", 1]
    with pytest.raises(hiredis.ReplyError):
        await any_links.bulk([("SET", "b1", "x"), ("INCR", "b1")])


async def test_an_open_breaker_refuses_at_once(links: Links, lua: Path) -> None:
    reader, scripts = Reader(links), Scripts(links, lua)
    before = await mget_calls(links)
    for _ in range(10):
        links.breaker.failed()
    with pytest.raises(StoreUnavailable):
        await reader.get_many(["k"])
    with pytest.raises(StoreUnavailable):
        await scripts.run("echo", ["s"], ["1", 1])
    with pytest.raises(StoreUnavailable):
        await links.bulk([("GET", "k")])
    assert await mget_calls(links) == before


def test_also_on_uvloop(store_server: EmbeddedStore, lua: Path) -> None:
    async def talk() -> list[object]:
        client = connect(store_server.url)
        links = Links(client, Breaker(asyncio.get_running_loop().time), timeout_seconds=5.0)
        scripts, reader = Scripts(links, lua), Reader(links)
        await asyncio.gather(*[scripts.run("echo", [f"u{i}"], [i, i]) for i in range(20)])
        found = await asyncio.gather(*[reader.get_many([f"u{i}"]) for i in range(20)])
        await links.aclose()
        await client.aclose()
        return list(found)

    assert uvloop.run(talk()) == [[b"%d" % i] for i in range(20)]


async def test_redirects_of_a_cluster_are_followed(two_node_cluster: str, lua: Path) -> None:
    """With a client whose slot table is the wrong way round."""
    client = connect(two_node_cluster)
    assert isinstance(client, RedisCluster)
    links = Links(client, Breaker(lambda: 0.0), timeout_seconds=10.0, connect_seconds=10.0)
    try:
        await swapped(links, client, lua)
    finally:
        await links.aclose()
        await client.aclose()


async def swapped(links: Links, client: RedisCluster, lua: Path) -> None:
    await links.ping()
    low, high = "k3", "k1"
    assert slot(low) < 8192 <= slot(high)
    assert links.to(low) is not links.to(high)
    await links.bulk([("SET", low, "1"), ("SET", high, "2")])
    table = client.nodes_manager.slots_cache
    right = {number: table[number][0] for number in (slot(low), slot(high))}

    def swap() -> None:
        for number, node in right.items():
            table[number] = [other for other in right.values() if other is not node]

    reader, scripts = Reader(links), Scripts(links, lua)
    swap()
    assert await reader.get_many([low, high]) == [b"1", b"2"]
    swap()
    assert await scripts.run("echo", [low], ["1", 5]) == [low.encode(), b"1", 5]
    swap()
    assert await links.bulk([("GET", high)]) == [b"2"]
    swap()
    with pytest.raises(ScriptError):
        await scripts.run("broken", [low], [])
    assert links.to(low) is links._to_node(right[slot(low)]), "redis-py learnt where it is"
    fields, members = f"{{{low}}}h", f"{{{low}}}s"
    await links.bulk([("HSET", fields, "a", "1"), ("SADD", members, "x")])
    for command, reply in (
        (("SET", low, "3"), b"OK"),
        (("SET", low, "4", "NX", "GET"), b"3"),
        (("HGETALL", fields), [b"a", b"1"]),
        (("SMEMBERS", members), [b"x"]),
        (("EXPIRE", low, 100), 1),
    ):
        assert await links.bulk([command]) == [reply]
        swap()
        assert await links.bulk([command]) == [reply], "redirected, it is the same"
    swap()
    assert await links.take([low.encode()], [b"4"], [2_000_000_000]) == [b"3"]
