"""Throws spoilt MQTT-SN datagrams of many senders at a gateway before the real broker.

What must hold: no exception escapes; what is kept stays within the policy's limits; the broker sees
no violation, whatever devices say; nothing goes to a sender that others have caused; a sound device
is served as ever, and when all have fallen silent nothing is left.
"""

from __future__ import annotations

from random import Random

from bridges.mqttsn.codes import FLAGS, Flags
from bridges.mqttsn.decode import decode
from bridges.mqttsn.encode import encode
from bridges.mqttsn.packets import (
    Connect,
    Disconnect,
    Encapsulated,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Regack,
    Register,
    Subscribe,
    Unsubscribe,
    WillMsg,
    WillMsgUpd,
    WillTopic,
    WillTopicUpd,
)
from broker.engine.notices import FaultSeen, ViolationSeen
from tests.fuzz.fuzzer import FoundError
from tests.support.mqttsn_client import SnClient
from tests.unit.mqttsn.engine_world import EngineWorld

POLICY = {
    "predefined": {1: "p/1", 2: "p/2"},
    "max_devices": 6,
    "max_topics": 5,
    "max_topic_bytes": 60,
    "longest_topic": 30,
    "receive_maximum": 2,
    "max_requests": 3,
    "device_bytes": 2000,
    "longest_message": 500,
    "collect_most": 5,
    "max_control": 50,
    "n_retry": 2,
}
ROUNDS_PER_GATEWAY = 30
SENDERS = ("1", "2", "3", "radio", "radio")
CLIENT_IDS = ("a", "b", "c", "d", "", "x" * 100, "\u00fc", "a b", "q\n")
TOPICS = ("t", "t/1", "t/2", "ab", "p/1", "t/+", "#", "", "$share/g/t", "t/#/x", "$SYS/x", "y" * 40)
IDS = (0, 1, 1, 1, 2, 2, 3, 7, 65_535)
TOPIC_IDS = (0, 1, 1, 2, 3, 4, 0x6162, 0x2B2F, 0xFFFF)
SIZES = (0, 1, 10, 100, 600)
# Beyond its budget a device may hold what the broker had sent before it was told to wait.
HELD_BEYOND = 2 * 1000


class MqttSnFuzzer:
    """Rounds of datagrams; `seed` and the number of the round repeat each of them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rounds = 0
        self.packets = 0
        self.begin()

    def begin(self) -> None:
        """A new gateway and a new broker."""
        self.rng = Random(f"{self.seed}/{self.rounds}")
        self.world = Senders(**POLICY)
        self.client = self.world.broker.connect("client")
        self.client.subscribe("#", qos=2)

    def round(self) -> None:
        """Several senders talk at once; raises FoundError."""
        if self.rounds % ROUNDS_PER_GATEWAY == 0:
            self.begin()
        self.rounds += 1
        try:
            for _ in range(self.rng.randrange(60)):
                self._datagram()
                if self.rng.random() < 0.15:
                    self._happen()
            self._check()
            if self.rounds % 10 == 0:
                self._check_the_end()
        except Exception as fault:
            raise FoundError(f"seed {self.seed}, round {self.rounds}: {fault!r}") from fault

    def _datagram(self) -> None:
        rng, world = self.rng, self.world
        sender = rng.choice(SENDERS)
        owed = world.heard.get(sender)
        if owed and rng.random() < 0.5:
            data = encode(rng.choice(owed))
        else:
            data = encode(rng.choice(_MAKERS)(rng))
        if rng.random() < 0.2:
            data = _spoilt(rng, data)
        if sender == "radio":
            data = encode(Encapsulated(1, rng.choice((b"\1", b"\2")), data))
        self.packets += 1
        world.gateway.receive(data, world.now, sender)
        if rng.random() < 0.7:
            world.settle()

    def _happen(self) -> None:
        """Something else goes on meanwhile."""
        rng, world = self.rng, self.world
        match rng.randrange(6):
            case 0:
                world.run(rng.choice((0.1, 1, 11, 100)))
            case 1 | 2:
                topic = rng.choice(("t", "t/1", "t/2", "ab", "p/1", "z" * 50))
                self.client.publish(topic, bytes(rng.choice(SIZES)), rng.randrange(3))
                self.client.received.clear()
            case 3 if world.pipes:
                rng.choice(world.pipes).break_off()
            case 4:
                world.gateway.is_writable = not world.gateway.is_writable
            case 5 if rng.random() < 0.1:
                world.restart_gateway()

    # -- what must hold ---------------------------------------------------------------------------

    def _check(self) -> None:
        world = self.world
        world.settle()
        for notice in world.broker.notices:
            assert not isinstance(notice, FaultSeen | ViolationSeen), notice
        world.broker.notices.clear()
        devices = list(world.gateway.devices)
        assert len(devices) <= POLICY["max_devices"]
        assert len({device.client_id for device in devices}) == len(devices)
        for device in devices:
            assert 0 <= device.held <= POLICY["device_bytes"] + HELD_BEYOND, device.held
            assert len(device._topics) <= POLICY["max_topics"]
        assert len(world.pipes) <= len(devices) + 1  # and that of QoS -1

    def _check_the_end(self) -> None:
        """With time for all to have gone; then somebody new comes."""
        world = self.world
        world.run(200_000)
        assert list(world.gateway.devices) == []
        assert world.gateway.next_deadline() is None, "a deadline of nobody"
        device = world.add(SnClient("sound"))
        device.connect()
        device.subscribe("sound", qos=1)
        device.publish("sound", b"hello", qos=2)
        world.run(1)
        assert [got.payload for got in device.received] == [b"hello"]
        device.disconnect()
        world.run(1)
        del world.devices["sound"]


class Senders(EngineWorld):
    """A world whose senders keep in mind what they might answer."""

    def __init__(self, **policy: object) -> None:
        self.heard: dict[str, list[Packet]] = {}
        super().__init__(**policy)

    def _exchange(self) -> bool:
        if self.devices:
            return super()._exchange()
        sent = self.gateway.data_to_send(self.now, room=500)
        for datagram in sent:
            packet = decode(datagram.data)
            if isinstance(packet, Encapsulated):
                packet = decode(packet.message)
            answer = _answer(packet)
            if answer is not None:
                self.heard.setdefault(datagram.peer or "", []).append(answer)
        for owed in self.heard.values():
            del owed[:-5]
        return bool(sent)


def _answer(packet: Packet) -> Packet | None:
    match packet:
        case Register():
            return Regack(packet.topic_id, packet.msg_id, 0)
        case Publish() if packet.flags.qos == 1:
            return Puback(packet.topic_id, packet.msg_id, 0)
        case Publish() if packet.flags.qos == 2:
            return Pubrec(packet.msg_id)
        case Pubrec():
            return Pubrel(packet.msg_id)
        case Pubrel():
            return Pubcomp(packet.msg_id)
    return None


def _spoilt(rng: Random, data: bytes) -> bytes:
    match rng.randrange(4):
        case 0:
            return data[: rng.randrange(len(data))]
        case 1:
            return bytes([rng.randrange(256)]) + data[1:]
        case 2:
            pos = rng.randrange(len(data))
            return data[:pos] + bytes([rng.randrange(256)]) + data[pos + 1 :]
    return rng.randbytes(rng.randrange(20))


def _connect(rng: Random) -> Packet:
    flags = Flags(will=rng.random() < 0.3, clean_session=rng.random() < 0.5)
    return Connect(flags, rng.choice((0, 1, 60, 600)), rng.choice(CLIENT_IDS))


def _publish(rng: Random) -> Packet:
    flags = FLAGS[rng.choice((0, 0x20, 0x40, 0x60)) | rng.choice((0, 0x80, 0x10)) | _kind(rng)]
    return Publish(flags, rng.choice(TOPIC_IDS), rng.choice(IDS), bytes(rng.choice(SIZES)))


def _kind(rng: Random) -> int:
    return rng.choice((0, 0, 1, 2))


def _subscription(rng: Random) -> Packet:
    kind = _kind(rng)
    topic = rng.choice(TOPICS) if kind == 0 else rng.choice((1, 9)) if kind == 1 else "ab"
    if rng.random() < 0.3:
        return Unsubscribe(Flags(topic_id_type=kind), rng.choice(IDS), topic)
    return Subscribe(Flags(qos=rng.randrange(3), topic_id_type=kind), rng.choice(IDS), topic)


_MAKERS = (
    *(_connect, _connect, _publish, _publish, _publish, _subscription, _subscription),
    lambda rng: WillTopic(Flags(qos=rng.randrange(3)), rng.choice(TOPICS)),
    lambda rng: WillMsg(bytes(rng.choice(SIZES))),
    lambda rng: Register(0, rng.choice(IDS), rng.choice(TOPICS)),
    lambda rng: Regack(rng.choice(TOPIC_IDS), rng.choice(IDS), rng.randrange(5)),
    lambda rng: Puback(rng.choice(TOPIC_IDS), rng.choice(IDS), rng.randrange(5)),
    lambda rng: Pubrec(rng.choice(IDS)),
    lambda rng: Pubrel(rng.choice(IDS)),
    lambda rng: Pubcomp(rng.choice(IDS)),
    lambda rng: Pingreq(rng.choice(("", *CLIENT_IDS))),
    lambda rng: Disconnect(rng.choice((None, 0, 10, 600))),
    lambda rng: WillTopicUpd(Flags(qos=rng.randrange(3)), rng.choice(TOPICS)),
    lambda rng: WillMsgUpd(bytes(rng.choice(SIZES))),
)
