"""The relay in front of an echo: PYTHONPATH=bench python3 -B -m unittest bench/relay_test.py"""

import os
import socket
import threading
import unittest

from relay import Relay, Rule

PATIENCE = 10
# What is cut does not come in this time.
CUT = 0.3


class Echo:
    """TCP and UDP on one port."""

    def __init__(self):
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        for serve in [self.accept, self.answer]:
            threading.Thread(target=serve, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.tcp.accept()
            threading.Thread(target=self.echo, args=(connection,), daemon=True).start()

    @staticmethod
    def echo(connection):
        with connection:
            while data := connection.recv(1000):
                connection.sendall(data)

    def answer(self):
        while True:
            data, address = self.udp.recvfrom(1000)
            self.udp.sendto(data, address)


class RelayTest(unittest.TestCase):
    def setUp(self):
        self.relay = Relay(Echo().port, lambda: {"me": os.getpid()})
        self.addCleanup(self.relay.close)

    def client(self, kind):
        client = socket.socket(socket.AF_INET, kind)
        self.addCleanup(client.close)
        client.connect(("127.0.0.1", self.relay.port))
        client.settimeout(PATIENCE)
        return client

    def assert_silent(self, client):
        client.settimeout(CUT)
        with self.assertRaises(TimeoutError):
            client.recv(10)
        client.settimeout(PATIENCE)

    def test_a_cut_holds_back_what_tcp_sends_until_it_is_healed(self):
        client = self.client(socket.SOCK_STREAM)
        client.sendall(b"one")
        self.assertEqual(client.recv(10), b"one")
        self.relay.cut("me")
        client.sendall(b"two")
        self.assert_silent(client)
        self.relay.heal()
        self.assertEqual(client.recv(10), b"two")
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(client.recv(10), b"")

    def test_a_cut_of_somebody_else_is_none(self):
        self.relay.cut("other")
        for kind in [socket.SOCK_STREAM, socket.SOCK_DGRAM]:
            client = self.client(kind)
            client.send(b"one")
            self.assertEqual(client.recv(10), b"one")

    def test_datagrams_are_dropped_each_way(self):
        client = self.client(socket.SOCK_DGRAM)
        for rules in [{"inbound": Rule(cut=True)}, {"outbound": Rule(loss=1.0)}]:
            self.relay.heal()
            self.relay.set("me", **rules)
            client.send(b"one")
            self.assert_silent(client)
        self.relay.heal()
        client.send(b"two")
        self.assertEqual(client.recv(10), b"two")
        self.assertEqual(self.relay.dropped, 2)


if __name__ == "__main__":
    unittest.main()
