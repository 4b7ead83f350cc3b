"""A server's TLS: takes connections with a certificate, and hands what comes on to another port of this host."""

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import trustme

from dev.processes import HOST, free_port

MOST_BYTES = 65536
SSL_REQUEST_BYTES, YES = 8, b"S"
"""What a client of PostgreSQL's asks before it speaks TLS, and the answer."""


@contextmanager
def tls_in_front_of(upstream: int, certificate: trustme.LeafCert, *, for_postgresql: bool = False) -> Iterator[int]:
    """The port on which it is done, until the block ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    async def serve(client: StreamReader, to_client: StreamWriter) -> None:
        if for_postgresql:
            await client.readexactly(SSL_REQUEST_BYTES)
            to_client.write(YES)
            await to_client.start_tls(context)
        server, to_server = await asyncio.open_connection(HOST, upstream)
        await asyncio.gather(_forward(client, to_server), _forward(server, to_client))

    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    port = free_port()
    starting = asyncio.start_server(serve, HOST, port, ssl=None if for_postgresql else context)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _forward(source: StreamReader, sink: StreamWriter) -> None:
    with suppress(OSError):
        while received := await source.read(MOST_BYTES):
            sink.write(received)
            await sink.drain()
    sink.close()
