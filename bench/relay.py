"""A TCP and UDP relay in front of one receiver, with rules that can be changed while it runs. Standard library only.

Who sends to the receiver is given the relay's port. A relay knows the sender of a connection or datagram only if it is told the processes
that may be one (`senders`): the kernel says who holds the other end of a socket. So one relay for each receiver is enough for cuts
of any direction between any two.
"""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import random
import threading

CHUNK = 64 * 1024
# Chunks of one direction of a connection that wait: then the sender has to.
WAITING_CHUNKS = 256
# Between two looks whether a cut is over.
LOOK_SECONDS = 0.01
# As long as a local receiver may take to accept.
CONNECT_SECONDS = 5
ANYBODY = "*"


@dataclasses.dataclass
class Rule:
    """Of one direction. A cut holds back what TCP sends, as a network does until it is healed, and drops datagrams; loss is of datagrams."""

    cut: bool = False
    delay: float = 0.0
    loss: float = 0.0


class Relay:
    """Listens on a port of its own, TCP and UDP, and passes on to `target` on the same host."""

    def __init__(self, target, senders=lambda: {}):
        self.target, self.senders = target, senders
        self.rules = {}
        # What came through: connections and datagrams, and datagrams that did not.
        self.connections = self.datagrams = self.dropped = 0
        self.loop = asyncio.new_event_loop()
        self.routes = {}
        self.port = self.server = self.socket = None
        ready = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(ready,), daemon=True)
        self.thread.start()
        if not ready.wait(10) or self.port is None:
            raise RuntimeError("the relay did not start")

    def set(self, sender=ANYBODY, inbound=None, outbound=None):
        """Rules for what a sender, by default anybody, sends to the receiver and for what goes back on the same way."""
        before = self.rules.get(sender, (Rule(), Rule()))
        self.rules[sender] = (inbound or before[0], outbound or before[1])

    def cut(self, sender=ANYBODY):
        """Both ways of what the sender has begun."""
        self.set(sender, Rule(cut=True), Rule(cut=True))

    def heal(self):
        self.rules.clear()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def rule(self, sender, outbound):
        rules = self.rules
        return rules.get(sender, rules.get(ANYBODY, (Rule(), Rule())))[outbound]

    def run(self, ready):
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self.open())
        finally:
            ready.set()
        self.loop.run_forever()

    async def open(self):
        # A port that is free for both kinds.
        for _ in range(50):
            server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            with contextlib.suppress(OSError):
                self.socket, _ = await self.loop.create_datagram_endpoint(lambda: Inbound(self), ("127.0.0.1", port))
                self.server, self.port = server, port
                return
            server.close()

    async def connected(self, reader, writer):
        self.connections += 1
        sender = await self.identify("tcp", writer.get_extra_info("peername")[1])
        # A connection that is cut off is not made: the receiver learns nothing of it.
        await self.passable(sender, False)
        try:
            there = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.target), CONNECT_SECONDS)
        except (OSError, asyncio.TimeoutError):
            writer.close()
            return
        await asyncio.gather(self.pump(reader, there[1], sender, False), self.pump(there[0], writer, sender, True))

    async def identify(self, kind, port):
        senders = self.senders()
        return await asyncio.to_thread(owner, kind, port, senders) if senders else None

    async def passable(self, sender, outbound):
        while self.rule(sender, outbound).cut:
            await asyncio.sleep(LOOK_SECONDS)

    async def pump(self, reader, writer, sender, outbound):
        waiting = asyncio.Queue(WAITING_CHUNKS)
        drain = asyncio.create_task(self.drain(waiting, writer, sender, outbound))
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await waiting.put((self.loop.time() + self.rule(sender, outbound).delay, data))
        await waiting.put((0, None))
        await drain

    async def drain(self, waiting, writer, sender, outbound):
        broken = False
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - self.loop.time()))
            await self.passable(sender, outbound)
            if data is None:
                writer.close()
                return
            if broken:
                continue
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                # What comes still is read to its end and dropped.
                broken = True

    async def datagram(self, data, address):
        route = self.routes.get(address)
        if route is None:
            # The receiver answers to where a datagram came from, so each sender has a socket of its own.
            sender = await self.identify("udp", address[1])
            route, _ = await self.loop.create_datagram_endpoint(lambda: Outbound(self, address, sender), remote_addr=("127.0.0.1", self.target))
            route = self.routes.setdefault(address, (route, sender))
        await self.forward(data, route[1], False, route[0].sendto)

    async def forward(self, data, sender, outbound, send):
        rule = self.rule(sender, outbound)
        if rule.cut or random.random() < rule.loss:
            self.dropped += 1
            return
        if rule.delay:
            await asyncio.sleep(rule.delay)
        self.datagrams += 1
        send(data)


class Inbound(asyncio.DatagramProtocol):
    """What is sent to the receiver."""

    def __init__(self, relay):
        self.relay = relay

    def datagram_received(self, data, address):
        self.relay.loop.create_task(self.relay.datagram(data, address))


class Outbound(asyncio.DatagramProtocol):
    """What the receiver answers."""

    def __init__(self, relay, address, sender):
        self.relay, self.address, self.sender = relay, address, sender

    def datagram_received(self, data, _):
        def send(data):
            self.relay.socket.sendto(data, self.address)

        self.relay.loop.create_task(self.relay.forward(data, self.sender, True, send))

    def error_received(self, _):
        """The receiver is down; it may come back."""


def owner(kind, port, senders):
    """Which of these processes, name -> id, holds the socket with this local port; none if none does."""
    inodes = set()
    for line in pathlib.Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    for name, pid in senders.items():
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(entry) in inodes:
                        return name
    return None
