"""One serial port: what comes from the wire finds who handles it, and what is for the wire is given
to it when it has room.

    event        from                                  goes to
    Received     a channel, or an MQTT-SN packet       by channel: the gateway, files, time, ...
    Reading      text lines                            the port's own client, which publishes it
    LogLine      text lines                            the log
    Opened, ...  the link                              what must know of it

Rule kept here: messages wait in the broker. The link gets as many as it has room for, answers
first; while it has none, QoS 0 is kept last value per topic, and the device is held when its
answers wait.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bridges.gateway.figures import PortFigures
from bridges.gateway.file_channel import FileChannel, objection
from bridges.gateway.gate import Gate
from bridges.gateway.plain_mqtt import PlainMqtt
from bridges.gateway.snapshots import printed, with_link
from bridges.gateway.speaker import Speaker
from bridges.mqttsn.answers import is_topic
from bridges.serial.detection import Detector
from bridges.serial.events import (
    Event,
    LogLine,
    Looped,
    Opened,
    Reading,
    Received,
    Recognised,
    Restarted,
    Silent,
)
from bridges.serial.frames import Capability, Channel
from bridges.serial.link import Link, LinkSettings, State
from bridges.serial.modes import (
    LONGEST_PACKET,
    Codec,
    Mode,
    PacketStream,
    Plain,
    SerialMachine,
    Slip,
    TextLines,
    Unframed,
)
from bridges.serial.times import answer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from random import Random

    from bridges.gateway.broker_side import BrokerSide
    from bridges.gateway.files import Progress
    from bridges.gateway.stamp import Stamp
    from bridges.mqttsn.gateway import Gateway
    from bridges.mqttsn.ports import Identity
    from bridges.serial.carrier import Carrier, PortInfo
    from broker.settings import SerialSettings

BITS: Final = 10  # of one byte on the wire
UID: Final = b"heliograph"
PUBLISH_HEADER, LONG_PUBLISH_HEADER = 7, 9  # bytes of an MQTT-SN PUBLISH beside its payload
LONGEST_SHORT: Final = 255
MOST_LEVELS: Final = 128
HOLD_FROM, GO_ON_AT = 256, 64  # answers that wait: the device is held, and let go on
FEW: Final = 2  # messages of a file that wait in the link
SLOW: Final = 20_000  # bytes per second; a wire below that gets few messages ahead of their time
QUEUE, SHORT_QUEUE = 16, 4  # messages that wait in the link
AHEAD: Final = 0.02  # seconds of wire time that may wait outside the broker, without frames
LEAST_AHEAD: Final = 64  # bytes
LOG_LINES: Final = 20  # per second that are passed on
DOUBT: Final = 10.0  # seconds in which a device is understood, for each baud
DOUBTFUL: Final = 32  # bytes that would have said something

log = logging.getLogger("heliograph")

_CODECS: Final[dict[str, Callable[[], Codec]]] = {
    Mode.MQTT_SN: PacketStream,
    Mode.SLIP: Slip,
    Mode.MQTT: Plain,
    Mode.TEXT: TextLines,
}


def link_settings(port: SerialSettings) -> LinkSettings:
    """The gateway's end of a framed wire."""
    able = Capability.CRC_32 | Capability.LOG | Capability.FILES
    if port.time:
        able |= Capability.TIME
    return LinkSettings(
        uid=UID, capabilities=able, window=port.window, payload_limit=port.payload_limit
    )


def machine_of(port: SerialSettings, rng: Random) -> SerialMachine:
    """How the port's mode is spoken."""
    if port.mode in _CODECS:
        return Unframed(_CODECS[port.mode]())
    link = Link(link_settings(port), rng)
    return link if port.mode == Mode.FRAMED else Detector(link)


class Wire:
    """The Owner of one Carrier, which comes with `start`."""

    def __init__(
        self,
        port: SerialSettings,
        gateway: Gateway,
        side: BrokerSide,
        identity: Identity,
        folder: Path,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        stamp: Stamp | None = None,
    ) -> None:
        self.port = port
        self.name = port.shown_name
        self.machine = machine_of(port, rng)
        self.link = _link_of(self.machine)
        self.mode: Mode | None = None if port.mode == "auto" else Mode(port.mode)
        self.gateway = gateway
        self.counts: Counter[str] = Counter()
        self.is_open = False
        self.log_lines = 0
        self._fixed_mode = self.mode
        self._loop = loop
        self._carrier: Carrier | None = None
        self._gate = Gate(gateway, loop, self._pass_on)
        self._rate = 0.0  # bytes per second; 0: there is no wire behind the port
        self._doubt_at = inf  # when to say that nothing is understood
        self._heard_before = 0  # bytes, before the port was opened
        self._is_held = False
        self._is_paced = False
        self._prefix = port.prefix.replace("{port}", self.name)
        self._log_topic = port.log.replace("{port}", self.name)
        self._log_second = self._log_left = 0
        self._speaker = Speaker(
            side.sessions(self.name, stamp), identity, loop, rng, port.commands, self._gate.wake
        )
        self._plain = PlainMqtt(side, self.name, self._gate.wake)
        self._files = FileChannel(
            *(port, folder, loop),
            lambda topic, told: self._speaker.say(topic, told, 0, retain=False),
            self._gate.wake,
        )
        if stamp is not None:
            stamp.link = self.link
        gateway.is_writable = False

    def start(self, carrier: Carrier) -> None:
        """Take up the devices that are known, and open the port."""
        self._carrier = carrier
        self.gateway.resume(self._loop.time())
        self._speaker.start()
        carrier.start()

    async def close(self) -> None:
        """Say goodbye and close the port."""
        self.gateway.close()
        self._pass_on(self._loop.time())
        self._gate.close()
        self._files.close()
        self._speaker.close()
        self._plain.close()
        if self._carrier is not None:
            await self._carrier.close()

    def reset_device(self) -> bool:
        """Reset the device by its lines; False: that cannot be done."""
        return self._carrier is not None and self._carrier.reset_device()

    def send_file(self, name: str, data: bytes, report: Callable[[Progress], None]) -> str:
        """Send a file to the device; why not, or "". `report` hears of its progress."""
        link = self.link if self.mode in (None, Mode.FRAMED) else None
        wrong = objection(link, name) or self._files.send(name, data, report)
        self._gate.wake()
        return wrong

    def figures(self) -> PortFigures:
        """How the port and its link do."""
        carrier = self._carrier
        found = PortFigures(self.name, mode=self.mode or "", log_lines=self.log_lines)
        if self.link is not None and self.mode in {None, Mode.FRAMED}:
            found = with_link(found, self.link)
        if carrier is None:
            return found
        port = carrier.figures
        return replace(
            found,
            path=port.path,
            is_open=port.is_open,
            baud=port.baud,
            bytes_received=port.bytes_in,
            bytes_sent=port.bytes_out,
            overruns=port.overruns,
            framing=port.framing,
            parity=port.parity,
            breaks=port.breaks,
            reconnects=max(0, port.opened - 1),
            devices=sum(1 for _ in self.gateway.devices),
            dropped=found.dropped + self._speaker.dropped,
            last_error=port.last_error,
        )

    # -- Owner ------------------------------------------------------------------------------------

    def on_plugged(self, info: PortInfo) -> None:
        """See Owner."""
        self.is_open = True
        self._is_paced = self._is_wire(info)
        self._adjust(info.baud)
        self._doubt_at = self._loop.time() + DOUBT * len(self.port.baud)
        self._heard_before = self._bytes_in
        if self.mode is not None:
            self._begin(self.mode)
            self._gate.wake()  # something may have waited for the port

    def on_unplugged(self, why: str) -> None:
        """See Owner. Devices stay: whether they are lost, their silence will tell."""
        del why  # the carrier has said it
        self.is_open = False
        self._hold(0)  # who is held cannot say how it speaks
        self.mode = self._fixed_mode
        self.gateway.is_writable = False
        self._plain.close()

    def on_events(self, events: Sequence[Event], now: float) -> None:
        """See Owner."""
        for event in events:
            _EVENTS[type(event)](self, event, now)
        if self._doubt_at < inf:
            self._weigh(events, now)
        self._pass_on(now)

    def _weigh(self, events: Sequence[Event], now: float) -> None:
        if any(isinstance(event, _UNDERSTOOD) for event in events):
            self._doubt_at = inf
        elif now >= self._doubt_at:
            self._doubt()

    def _doubt(self) -> None:
        """Say once that nothing is understood; a port that is silent is no reason."""
        if self._bytes_in - self._heard_before < DOUBTFUL:
            return
        self._doubt_at = inf
        fixed = self._fixed_mode
        log.warning(
            "%s: what comes %s at %s baud: set %s in [[serial]] to what the device uses, in a "
            "sketch Serial.begin(...). `heliograph serial monitor` shows it",
            *(self.name, f"is no {fixed}" if fixed else "means nothing"),
            *(" or ".join(map(str, self.port.baud)), "mode and baud" if fixed else "baud"),
        )

    @property
    def _bytes_in(self) -> int:
        return 0 if self._carrier is None else self._carrier.figures.bytes_in

    # -- what comes -------------------------------------------------------------------------------

    def _on_received(self, event: Received, now: float) -> None:
        if event.channel == Channel.MQTT_SN:
            self.gateway.receive(event.payload, now, self.name)
            return
        handler = _CHANNELS.get(event.channel)
        if handler is None:
            self.counts["a channel that is not known"] += 1
        else:
            handler(self, event.payload, now)

    def _on_opened(self, event: Opened, now: float) -> None:
        assert self.link is not None
        self._follow_rate()
        self.gateway.longest_message = longest_payload(self.link.payload_limit)
        if event.is_resumed:
            return
        peer = event.peer
        if self._may_say(now):  # it may be reset again and again
            log.info("%s: device %s, firmware %a", self.name, printed(peer.uid), peer.firmware)
        self._files.restart()

    def _on_restarted(self, event: Restarted, _now: float) -> None:
        """What is lost is asked for again by whoever misses it."""
        lost = len(event.unacknowledged) + len(event.unsent)
        self.counts["lost when the device was reset"] += lost
        self.gateway.drop_answers()
        self.gateway.is_writable = False

    def _on_silent(self, _event: Silent, _now: float) -> None:
        log.warning("%s: the device does not answer any more", self.name)
        self.gateway.is_writable = False

    def _on_looped(self, _event: Looped, _now: float) -> None:
        if not self.counts["looped"]:
            log.warning("%s: what is sent comes back: are RX and TX connected?", self.name)
        self.counts["looped"] += 1

    def _on_recognised(self, event: Recognised, _now: float) -> None:
        self.mode = Mode(event.mode)
        log.info("%s: the device speaks %s", self.name, event.mode)
        self._follow_rate()
        self._begin(self.mode)

    def _begin(self, mode: Mode) -> None:
        if mode is not Mode.FRAMED:
            self.gateway.longest_message = longest_payload(LONGEST_PACKET)
            self.gateway.drop_answers()  # to whoever was plugged in before

    def _on_reading(self, event: Reading, _now: float) -> None:
        topic = self._prefix + event.topic
        if is_topic(topic, MOST_LEVELS):
            self._speaker.say(topic, event.value, self.port.qos, self.port.retain)
        else:
            self.counts["no topic"] += 1

    def _on_log_line(self, event: LogLine, now: float) -> None:
        """A device may babble: what is too much is counted."""
        self.log_lines += 1
        if not self._may_say(now):
            return
        log.info("%s says: %a", self.name, event.text[:200])
        if self._log_topic:
            self._speaker.say(self._log_topic, event.text.encode(), 0, retain=False)

    def _may_say(self, now: float) -> bool:
        """Whether the log has room for a line of this port."""
        if int(now) != self._log_second:
            self._log_second, self._log_left = int(now), LOG_LINES
        if not self._log_left:
            self.counts["log lines left out"] += 1
            return False
        self._log_left -= 1
        return True

    def _on_log(self, payload: bytes, now: float) -> None:
        for line in payload.decode(errors="replace").splitlines():
            self._on_log_line(LogLine(line), now)

    def _on_time(self, payload: bytes, now: float) -> None:
        told = answer(payload, time.time()) if self.port.time else None
        if told is not None and self.link is not None:
            self.link.send_once(Channel.TIME, told, now)

    def _on_raw(self, payload: bytes, _now: float) -> None:
        if self.mode is Mode.MQTT:
            self._plain.receive(payload)
        else:
            self.counts["raw: nobody wants it"] += 1

    def _on_file(self, payload: bytes, now: float) -> None:
        self._files.receive(payload, now)

    # -- what goes --------------------------------------------------------------------------------

    def _pass_on(self, now: float) -> None:
        """Give the wire what it has room for."""
        if not self.is_open or self.mode is None:
            return
        if _FILLERS[self.mode](self, now) and self._carrier is not None:
            self._carrier.wake()
        self._hold(self.gateway.answers)

    def _fill_link(self, now: float) -> bool:
        link, gateway = self.link, self.gateway
        if link is None or link.state is not State.OPEN:
            gateway.is_writable = False
            return False
        room = link.writable(Channel.MQTT_SN)
        sent = gateway.data_to_send(now, most=room) if room else ()
        for datagram in sent:
            if len(datagram.data) <= link.payload_limit:
                link.send(Channel.MQTT_SN, datagram.data, now)
            else:
                self.counts["too large for the device"] += 1
        gateway.is_writable = len(sent) < room
        return self._fill_files(link, now) or bool(sent)

    def _fill_files(self, link: Link, now: float) -> bool:
        is_filled = False
        while link.settings.queue - link.writable(Channel.FILES) < FEW:
            payload = self._files.payload(link.payload_limit, now)
            if payload is None:
                break
            is_filled = link.send(Channel.FILES, payload, now)
        return is_filled

    def _fill_packets(self, now: float) -> bool:
        room = self._room()
        sent = self.gateway.data_to_send(now, room) if room else ()
        for datagram in sent:
            self.machine.send(Channel.MQTT_SN, datagram.data, now)
        self.gateway.is_writable = self._room() > 0
        return bool(sent)

    def _fill_mqtt(self, now: float) -> bool:
        room = self._room()
        data = self._plain.take(room) if room else b""
        return bool(data) and self.machine.send(Channel.RAW, data, now)

    def _fill_lines(self, now: float) -> bool:
        is_filled = False
        while self._room() and (line := self._speaker.take_command()) is not None:
            if self.machine.send(Channel.RAW, line, now):
                is_filled = True
            else:
                self._drop_command()
        return is_filled

    def _drop_command(self) -> None:
        if not self.counts["command of several lines"]:
            log.warning("%s: a command of several lines is dropped: send one a message", self.name)
        self.counts["command of several lines"] += 1

    def _room(self) -> int:
        """How many bytes may wait behind the machine without frames, and do not yet."""
        machine = self.machine
        waiting = machine.waiting if isinstance(machine, Unframed | Detector) else 0
        return max(0, int(max(LEAST_AHEAD, self._rate * AHEAD)) - waiting)

    def _hold(self, waiting: int) -> None:
        """A device whose answers wait is to wait itself."""
        if self._is_held == (waiting >= (GO_ON_AT if self._is_held else HOLD_FROM)):
            return
        self._is_held = not self._is_held
        if self.link is not None and self.mode is Mode.FRAMED:
            self.link.allow(0 if self._is_held else self.port.window, self._loop.time())
        elif self._carrier is not None:
            self._carrier.hold(self._is_held)
        if self._carrier is not None:
            self._carrier.wake()

    def _follow_rate(self) -> None:
        """It may have been searched for."""
        if self._carrier is not None:
            self._adjust(self._carrier.figures.baud)

    def _adjust(self, baud: int) -> None:
        """The rate is another one."""
        self._rate = baud / BITS if self._is_paced else 0.0
        if self.link is not None:
            queue = SHORT_QUEUE if 0 < self._rate < SLOW else QUEUE
            self.link.adjust(self._rate, queue)

    def _is_wire(self, info: PortInfo) -> bool:
        if self.port.pace != "auto":
            return self.port.pace == "yes"
        device = str(Path(info.path).resolve())
        return "://" not in info.path and not device.startswith("/dev/pts/")


def longest_payload(limit: int) -> int:
    """Return how much a PUBLISH brings in a message of at most `limit` bytes."""
    return limit - (PUBLISH_HEADER if limit <= LONGEST_SHORT else LONG_PUBLISH_HEADER)


def _link_of(machine: SerialMachine) -> Link | None:
    if isinstance(machine, Detector):
        return machine.link
    return machine if isinstance(machine, Link) else None


_UNDERSTOOD: Final = (Opened, Recognised, Received, Reading, LogLine)
_EVENTS: Final[dict[type, Callable[[Wire, Any, float], None]]] = {
    Received: Wire._on_received,
    Opened: Wire._on_opened,
    Restarted: Wire._on_restarted,
    Silent: Wire._on_silent,
    Looped: Wire._on_looped,
    Reading: Wire._on_reading,
    LogLine: Wire._on_log_line,
    Recognised: Wire._on_recognised,
}
_CHANNELS: Final[dict[int, Callable[[Wire, bytes, float], None]]] = {
    Channel.LOG: Wire._on_log,
    Channel.TIME: Wire._on_time,
    Channel.FILES: Wire._on_file,
    Channel.RAW: Wire._on_raw,
}
# each returns whether it gave the machine something
_FILLERS: Final[dict[Mode, Callable[[Wire, float], bool]]] = {
    Mode.FRAMED: Wire._fill_link,
    Mode.MQTT_SN: Wire._fill_packets,
    Mode.SLIP: Wire._fill_packets,
    Mode.MQTT: Wire._fill_mqtt,
    Mode.TEXT: Wire._fill_lines,
}
