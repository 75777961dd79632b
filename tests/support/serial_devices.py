"""Devices at real sockets and ptys: `SnClient`, an independent MQTT-SN client, carried by UDP or by
a framed link, and a pty that can be unplugged.
"""

from __future__ import annotations

import os
import pty
import select
import socket
import time
import tty
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Self

from bridges.serial.events import Received
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.mqttsn_client import SnClient

PATIENCE = 30.0  # seconds: only a hang reaches it


class Carried:
    """A client that is run until something is so."""

    def __init__(self, client: SnClient) -> None:
        self.client = client
        client.T_RETRY = 1.0

    def run(self, done: Callable[[], bool] | None = None) -> SnClient:
        """Until `done`; else until it has nothing more to ask."""
        wanted = done or (lambda: self.client.is_idle)
        deadline = time.monotonic() + PATIENCE
        while not wanted():
            assert time.monotonic() < deadline, (self.client.state, self.client.done)
            self.exchange()
        return self.client

    def exchange(self) -> None:
        """Say what waits, hear what comes."""
        raise NotImplementedError


class UdpDevice(Carried):
    """At a socket; `node`: behind a forwarder."""

    def __init__(self, client: SnClient, port: int, node: bytes | None = None) -> None:
        super().__init__(client)
        self.node = node
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(0.02)
        self.sock.connect(("127.0.0.1", port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def say(self, data: bytes) -> None:
        """Send a datagram as it is, with its forwarder's header if there is one."""
        header = b"" if self.node is None else bytes((3 + len(self.node), 0xFE, 0)) + self.node
        self.sock.send(header + data)

    def hear(self) -> bytes | None:
        """The next datagram, if one comes."""
        try:
            data = self.sock.recv(2048)
        except TimeoutError:
            return None
        if self.node is not None:
            assert data[1] == 0xFE
            assert data[3 : data[0]] == self.node
            return data[data[0] :]
        return data

    def exchange(self) -> None:
        for datagram in self.client.datagrams(time.monotonic()):
            self.say(datagram)
        with suppress(ConnectionRefusedError):  # the gateway is away
            data = self.hear()
            if data is not None:
                self.client.receive(data, time.monotonic())
        self.client.tick(time.monotonic())


class Pty:
    """A serial port under one name, which can be plugged and unplugged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.master = self._slave = -1

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def plug(self) -> None:
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path.symlink_to(os.ttyname(self._slave))

    def unplug(self) -> None:
        if self.master >= 0:
            self.path.unlink()
            os.close(self.master)
            os.close(self._slave)
            self.master = -1

    def write(self, data: bytes) -> None:
        os.write(self.master, data)

    def read(self, wait: float = 0.02) -> bytes:
        """What is there within that time."""
        readable, _, _ = select.select([self.master], [], [], wait)
        return os.read(self.master, 4096) if readable else b""

    def read_until(self, wanted: bytes) -> bytes:
        """What comes, up to and with `wanted`."""
        got, deadline = b"", time.monotonic() + PATIENCE
        while wanted not in got:
            assert time.monotonic() < deadline, got
            got += self.read(0.1)
        return got


class FramedDevice(Carried):
    """At a pty, with a link. `noise`: the chance of each byte, either way, to be damaged."""

    def __init__(self, client: SnClient, port: Pty, noise: float = 0.0) -> None:
        super().__init__(client)
        self.port = port
        self.noise = noise
        self.rng = Random(3)
        self.link = Link(LinkSettings(uid=b"device", firmware="1.0"), Random(7))
        self.others: list[Received] = []
        self.plugged()

    def plugged(self) -> None:
        self.link.plugged(time.monotonic())

    def exchange(self) -> None:
        now = time.monotonic()
        for datagram in self.client.datagrams(now):
            assert self.link.send(Channel.MQTT_SN, datagram, now)
        self.port.write(self._damaged(self.link.data_to_send()))
        data = self._damaged(self.port.read())
        now = time.monotonic()
        for event in self.link.receive(data, now) if data else ():
            if isinstance(event, Received) and event.channel == Channel.MQTT_SN:
                self.client.receive(event.payload, now)
            elif isinstance(event, Received):
                self.others.append(event)
        self.link.tick(now)
        self.client.tick(now)

    def _damaged(self, data: bytes) -> bytes:
        if not self.noise:
            return data
        flips = (self.rng.random() < self.noise for _ in data)
        return bytes(
            byte ^ 1 << self.rng.randrange(8) if flip else byte
            for byte, flip in zip(data, flips, strict=True)
        )


class FramedForwarder:
    """A radio's base at a pty: one link, many nodes, each a client of its own."""

    def __init__(self, port: Pty, clients: dict[bytes, SnClient]) -> None:
        self.port = port
        self.clients = clients
        self.link = Link(LinkSettings(uid=b"base", queue=200), Random(7))
        self.link.plugged(time.monotonic())

    @property
    def is_idle(self) -> bool:
        return all(client.is_idle for client in self.clients.values())

    def exchange(self) -> None:
        now = time.monotonic()
        for node, client in self.clients.items():
            client.tick(now)
            for datagram in client.datagrams(now):
                header = bytes((3 + len(node), 0xFE, 0)) + node
                assert self.link.send(Channel.MQTT_SN, header + datagram, now)
        self.port.write(self.link.data_to_send())
        data = self.port.read(0.002)
        now = time.monotonic()
        for event in self.link.receive(data, now) if data else ():
            if isinstance(event, Received):
                end = event.payload[0]
                self.clients[event.payload[3:end]].receive(event.payload[end:], now)
        self.link.tick(now)
