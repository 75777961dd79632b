"""How fast and how lean the serial gateway is: `python -m tests.performance.serial`.

    rates     framed messages of 20 bytes on a pty without pacing, through link, gateway and
              broker; the device is this process, its other end is another
    idle      CPU of a gateway with 64 devices that have nothing to say
    overhead  bytes on the wire for a payload of 20 bytes
    goodput   of a wire paced at 115200 baud, against what framing allows

Every message is confirmed by the broker: the rate of QoS 0 ends with a PUBACK that comes after all.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import socket
import sys
import tempfile
import time
import tty
from collections import deque
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from bridges.mqttsn.codes import Flags
from bridges.mqttsn.decode import decode
from bridges.mqttsn.encode import encode
from bridges.mqttsn.packets import (
    Connack,
    Connect,
    Encapsulated,
    Packet,
    Puback,
    Publish,
    Regack,
    Register,
    Suback,
    Subscribe,
)
from bridges.serial.events import Received
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings, State
from bridges.serial.modes import slip
from broker.packets.encode import encode as encode_mqtt
from broker.packets.types import Connect as MqttConnect
from broker.packets.types import Publish as MqttPublish
from tests.support.process import BrokerProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAYLOAD = b"temperature 21.50 C\n"
PATIENCE = 30.0
BAUD = 115_200
AT_ONCE = 40  # messages on their way to the device
TICKS = os.sysconf("SC_CLK_TCK")


class Device:
    """A device on the master's end of a pty: a link, and MQTT-SN packets."""

    def __init__(self, settings: LinkSettings | None = None) -> None:
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)
        self.link = Link(settings or LinkSettings(uid=b"bench", window=8), Random(1))
        self.packets: deque[Packet] = deque()
        self.topic_id = 0
        self.sent = 0  # bytes
        self._out = b""

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)

    def plug(self) -> None:
        self.link.plugged(time.monotonic())
        self.until(lambda: self.link.state is State.OPEN)

    def say(self, packet: Packet) -> None:
        data = encode(packet)
        while not self.link.send(Channel.MQTT_SN, data, time.monotonic()):
            self.exchange()

    def ask(self, packet: Packet, kind: type[Packet]) -> Packet:
        self.say(packet)
        found: list[Packet] = []

        def is_answered() -> bool:
            while self.packets:
                found.append(self.packets.popleft())
            return any(type(each) is kind for each in found)

        self.until(is_answered)
        return next(each for each in found if type(each) is kind)

    def join(self) -> None:
        self.plug()
        assert self.ask(Connect(Flags(clean_session=True), 600, "bench"), Connack) == Connack(0)
        answer = self.ask(Register(0, 1, "bench/temperature"), Regack)
        assert isinstance(answer, Regack)
        self.topic_id = answer.topic_id

    def publish(self, qos: int, msg_id: int) -> None:
        self.say(Publish(Flags(qos=qos), self.topic_id, msg_id, PAYLOAD))

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, "no answer from the gateway"
            self.exchange()

    def exchange(self, nap: float = 0.005) -> None:
        """Write what waits, read what is there."""
        self._write()
        readable, _, _ = select.select([self.master], [], [], nap)
        now = time.monotonic()
        if readable:
            for event in self.link.receive(os.read(self.master, 65_536), now):
                if isinstance(event, Received):
                    self.packets.append(decode(event.payload))
        deadline = self.link.next_deadline()
        if deadline is not None and now >= deadline:
            self.link.tick(now)

    def _write(self) -> None:
        self._out += self.link.data_to_send()
        if self._out:
            try:
                written = os.write(self.master, self._out)
            except BlockingIOError:
                written = 0
            self.sent += written
            self._out = self._out[written:]


def broker_for(folder: str, device: Device, **port: object) -> BrokerProcess:
    """A broker with the device's port, without a store."""
    settings = {
        "store": {"level": "memory"},
        "broker": {"sys_interval": 0},
        "serial": [{"port": device.path, "name": "bench", "mode": "framed", "log": "", **port}],
    }
    return BrokerProcess(Path(folder), settings=settings)


def rate_of_qos_0(device: Device, messages: int) -> float:
    begun = time.monotonic()
    for _ in range(messages):
        device.publish(0, 0)
    device.publish(1, 1)
    device.until(lambda: Puback(device.topic_id, 1, 0) in device.packets)
    return messages / (time.monotonic() - begun)


def rate_of_qos_1(device: Device, messages: int, window: int = 8) -> float:
    device.packets.clear()
    begun = time.monotonic()
    sent = answered = 0
    while answered < messages:
        while sent < messages and sent - answered < window:
            sent += 1
            device.publish(1, sent % 0xFFFF + 1)
        device.exchange()
        answered += sum(type(each) is Puback for each in device.packets)
        device.packets.clear()
    return messages / (time.monotonic() - begun)


def cpu_of(pid: int) -> float:
    """Seconds that the process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def idle_cpu(seconds: float, devices: int = 64) -> float:
    """The share of a core that the broker with its gateway takes: devices on UDP and one wire."""
    device = Device()
    with tempfile.TemporaryDirectory() as folder:
        place = ("127.0.0.1", free_port())
        broker = broker_for(folder, device)
        broker.settings = {
            **broker.settings,
            "broker": {},  # figures are told as they are without any settings
            "mqttsn": {"listen": f"udp://127.0.0.1:{place[1]}"},
        }
        with broker:
            device.plug()
            for number in range(devices // 2):
                connect = encode(Connect(Flags(clean_session=True), 600, f"node-{number}"))
                node = bytes((number,))
                device.say(Encapsulated(0, node, connect))
            device.until(lambda: sum(type(each) is Encapsulated for each in device.packets) >= 32)
            sockets = [_joined(place, number) for number in range(devices // 2)]
            before = cpu_of(broker.pid)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                device.exchange(0.2)
            used = cpu_of(broker.pid) - before
            for each in sockets:
                each.close()
    device.close()
    return used / seconds


def _joined(place: tuple[str, int], number: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(place)
    sock.settimeout(PATIENCE)
    sock.send(encode(Connect(Flags(clean_session=True), 600, f"far-{number}")))
    assert decode(sock.recv(100)) == Connack(0)
    return sock


def overheads() -> Iterator[tuple[str, int]]:
    """Bytes on the wire beside the payload, of one PUBLISH of QoS 1."""
    packet = encode(Publish(Flags(qos=1), 1, 1, PAYLOAD))
    mqtt = encode_mqtt(MqttPublish("bench/temperature", PAYLOAD, 1, packet_id=1), 4)
    yield "plain MQTT 3.1.1, topic of 17 bytes", len(mqtt) - len(PAYLOAD)
    yield "raw MQTT-SN", len(packet) - len(PAYLOAD)
    yield "MQTT-SN in SLIP", len(slip(packet)) - len(PAYLOAD)
    yield "MQTT-SN framed, CRC-16", len(_frame(packet, strong=False)) - len(PAYLOAD)
    yield "MQTT-SN framed, CRC-32", len(_frame(packet, strong=True)) - len(PAYLOAD)


def goodput_up(messages: int) -> float:
    """Payload from the device, of what a wire of BAUD can bring in such frames."""
    device = Device(LinkSettings(uid=b"bench", rate=BAUD / 10))
    with tempfile.TemporaryDirectory() as folder, broker_for(folder, device) as broker:
        del broker
        device.join()
        rate = rate_of_qos_0(device, messages)
    device.close()
    return rate / _most_messages()


def goodput_down(messages: int) -> float:
    """Payload to the device, of the same."""
    device = Device()
    with (
        tempfile.TemporaryDirectory() as folder,
        broker_for(folder, device, pace="yes", baud=BAUD) as broker,
    ):
        device.join()
        device.ask(Subscribe(Flags(qos=0), 2, "+"), Suback)  # short topics: they need no REGISTER
        names = [f"{number:02}" for number in range(AT_ONCE)]  # several: else newest value wins
        published = [encode_mqtt(MqttPublish(name, PAYLOAD), 4) for name in names]
        with socket.create_connection(("127.0.0.1", broker.port)) as sock:
            sock.sendall(encode_mqtt(MqttConnect("bench-down", True), 4))
            sock.recv(4)
            begun, got, asked = time.monotonic(), 0, 0
            while got < messages:
                while asked < messages and asked - got < AT_ONCE:
                    sock.sendall(published[asked % AT_ONCE])
                    asked += 1
                device.exchange()
                got += sum(type(each) is Publish for each in device.packets)
                device.packets.clear()
            rate = messages / (time.monotonic() - begun)
    device.close()
    return rate / _most_messages()


def _most_messages() -> float:
    """Messages a second that BAUD allows, of QoS 0 and with CRC-32."""
    return BAUD / 10 / len(_frame(encode(Publish(Flags(), 1, 0, PAYLOAD)), strong=True))


def _frame(packet: bytes, strong: bool) -> bytes:
    from bridges.serial.crc import seal_between
    from bridges.serial.framing import wrap

    return wrap(seal_between(1, 2, strong).close(b"\x38\x00" + packet))


def main() -> None:
    options = _options()
    device = Device()
    with tempfile.TemporaryDirectory() as folder, broker_for(folder, device) as broker:
        device.join()
        for name, rate in (("QoS 0", rate_of_qos_0), ("QoS 1", rate_of_qos_1)):
            before, begun = cpu_of(broker.pid), time.monotonic()
            found = max(rate(device, options.messages) for _ in range(options.rounds))
            share = (cpu_of(broker.pid) - before) / (time.monotonic() - begun)
            say(f"{name}: {found:,.0f} messages/s framed on a pty; the broker used {share:.0%}")
    device.close()
    say(f"idle: {idle_cpu(options.seconds):.2%} of a core with 64 devices")
    say(f"goodput at {BAUD} baud: {goodput_up(1000):.1%} from the device")
    say(f"goodput at {BAUD} baud: {goodput_down(1000):.1%} to the device")
    for name, size in overheads():
        say(f"overhead: {size} bytes, {name}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.performance.serial")
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=25.0, help="of being idle")
    return parser.parse_args()


if __name__ == "__main__":
    main()
