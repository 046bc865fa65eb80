"""Every kind of URL leads to a store, with passwords and TLS."""

import asyncio
import datetime
import ipaddress
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bidder.store import keys
from bidder.store.breaker import Breaker, StoreUnavailable
from bidder.store.coalesce import Reader
from bidder.store.connect import BadStoreUrl, connect, is_cluster, located
from bidder.store.embedded import EmbeddedStore
from bidder.store.links import Links, slot


def test_only_stores_are_stores(tmp_path: Path) -> None:
    with pytest.raises(BadStoreUrl, match="'b' is not a store") as caught:
        located("http://user:secret@b", tmp_path)
    assert "secret" not in str(caught.value)
    assert located("redis://a:1/0", tmp_path) == ("redis://a:1/0", None)
    assert is_cluster("rediss+cluster://a:1")
    assert not is_cluster("rediss://a:1")


async def test_embedded_lives_in_the_state_folder(tmp_path: Path) -> None:
    url, server = located("embedded", tmp_path / "with space")
    assert server is not None
    with server:
        client = connect(url)
        assert await client.ping()
        await client.aclose()
    assert (tmp_path / "with space" / "store" / "appendonlydir").is_dir()


async def read_through(url: str) -> list[bytes | None]:
    client = connect(url, timeout_seconds=5.0)
    links = Links(client, Breaker(time.monotonic), timeout_seconds=5.0, connect_seconds=5.0)
    try:
        await links.bulk([("SET", "k", "v" * 100_000)])
        return await Reader(links).get_many(["k", "absent"])
    finally:
        await links.aclose()
        await client.aclose()


async def test_password_and_database(
    new_server: Callable[..., EmbeddedStore], free_port: int
) -> None:
    port = free_port
    client = connect(new_server(port=str(port), bind="127.0.0.1").url)
    await client.config_set("requirepass", "s3cret")
    await client.aclose()
    found = await read_through(f"redis://:s3cret@127.0.0.1:{port}/3")
    assert found == [b"v" * 100_000, None]
    client = connect(f"redis://:s3cret@127.0.0.1:{port}/3")
    assert await client.dbsize() == 1
    await client.aclose()
    with pytest.raises(StoreUnavailable, match="cannot connect"):
        await read_through(f"redis://:wrong@127.0.0.1:{port}/3")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "cert.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


async def behind_tls(store_server: EmbeddedStore, folder: Path) -> None:
    """Read through a TLS terminator in front of the server's socket."""
    certificate_file, key_file = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    pumps: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_unix_connection(store_server.socket_path)
        pumps.append(asyncio.ensure_future(pump(reader, inner[1])))
        pumps.append(asyncio.ensure_future(pump(inner[0], writer)))

    server = await asyncio.start_server(join, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    url = f"rediss://127.0.0.1:{port}/0"
    assert await read_through(f"{url}?ssl_ca_certs={certificate_file}") == [b"v" * 100_000, None]
    with pytest.raises(StoreUnavailable, match="certificate"):
        await read_through(url)
    await asyncio.wait(pumps, timeout=10)
    await asyncio.gather(*pumps, return_exceptions=True)
    server.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_tls_verifies_the_server(run, store_server: EmbeddedStore, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run(behind_tls(store_server, tmp_path))


def test_what_changes_together_shares_a_slot() -> None:
    of_person = [keys.profile, keys.identifiers, keys.alias, keys.ledger]
    assert len({slot(key("AAAAAAAAAAAAAAAA")) for key in of_person}) == 1
    assert len({slot(keys.campaign(7, part)) for part in ("spend", "leases")}) == 1
    assert keys.campaign(7, "spend") == "c:{00000007}:spend"
