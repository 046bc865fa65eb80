"""What does Python's HTTP server cost by itself? The bare application bidders are held against.

It reads the body, decodes it with `orjson.loads` and answers a fixed body the size of a bid:
aiohttp on uvloop, with no access log. Run as ``python -m loadtest.bench.bare PORT``.
"""

import sys

import orjson
import uvloop
from aiohttp import web

ANSWER = orjson.dumps(
    {
        "id": "0123456789abcdef",
        "cur": "USD",
        "seatbid": [
            {
                "seat": "bare",
                "bid": [
                    {
                        "id": "AbCdEfGhIjKlMnOp",
                        "impid": "1",
                        "price": 1.234,
                        "adm": "<a href=https://ads.example><img src=https://ads.example/1.png></a>"
                        * 8,
                        "adomain": ["ads.example"],
                        "crid": "creative-1",
                        "cid": "campaign-1",
                        "w": 300,
                        "h": 250,
                        "mtype": 1,
                        "nurl": "https://ads.example/notice/win?t=" + "x" * 120,
                        "burl": "https://ads.example/notice/billing?t=" + "x" * 120,
                    }
                ],
            }
        ],
    }
)


async def bid(request: web.Request) -> web.Response:
    """Read, decode, answer."""
    orjson.loads(await request.read())
    return web.Response(body=ANSWER, content_type="application/json")


def application() -> web.Application:
    """An application that answers every POST alike."""
    app = web.Application()
    app.router.add_post("/{path:.*}", bid)
    return app


def main(port: int) -> None:
    """Serve on 127.0.0.1 until stopped."""
    web.run_app(
        application(),
        host="127.0.0.1",
        port=port,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
