"""Timers, pipes and pairs of sockets under one event loop; what is printed depends on neither speed nor order."""
import asyncio
import hashlib
import os
import socket

print("begins", flush=True)


async def through_a_pipe(name, count):
    """Sends lines through a pipe, some of them much longer than it."""
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    reader = asyncio.StreamReader(limit=1 << 22)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb"))
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(writing, "wb"))
    writer = asyncio.StreamWriter(transport, protocol, None, loop)

    async def send():
        for n in range(count):
            writer.write(f"{name} {n} ".encode() + b"x" * (n * 7919 % 200000) + b"\n")
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.close()

    sending = asyncio.create_task(send())
    digest = hashlib.sha256()
    while line := await reader.readline():
        digest.update(line)
    await sending
    return f"{name} {digest.hexdigest()}"


async def between_sockets(name, count):
    """Has what it sends sent back by the other end."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    other_reader, other_writer = await asyncio.open_connection(sock=theirs)

    async def echo():
        while piece := await other_reader.read(65536):
            other_writer.write(piece)
            await other_writer.drain()
        other_writer.close()

    echoing = asyncio.create_task(echo())
    digest = hashlib.sha256()
    for n in range(count):
        sent = f"{name} {n} ".encode() * (1 + n * 31 % 3000)
        writer.write(sent)
        digest.update(await reader.readexactly(len(sent)))
        await asyncio.sleep(0.001)
    writer.write_eof()
    assert await reader.read() == b""
    await echoing
    return f"{name} {digest.hexdigest()}"


async def by_the_clock(name, count):
    """Waits for points in time, and for none too long."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for n in range(count):
        due = start + n * 0.01
        await asyncio.sleep(due - loop.time())
        assert due - 0.01 <= loop.time() < due + 5, f"{loop.time() - due} s late"
    return f"{name} {count}"


async def main():
    tasks = [through_a_pipe(f"pipe {n}", 1500) for n in range(3)]
    tasks += [between_sockets(f"pair {n}", 1500) for n in range(3)]
    tasks += [by_the_clock("clock", 900)]
    for line in await asyncio.gather(*tasks):
        print(line)


asyncio.run(main())
