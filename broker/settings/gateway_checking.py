"""Serial ports and MQTT-SN: settings that do not go together."""

from collections.abc import Iterator

from broker.settings.gateway_tables import DeviceSettings, SerialSettings
from broker.settings.problems import Problem
from broker.settings.tables import Settings

MOST_RATES = 16
FRAMED = ("auto", "framed")
SHOWN = "`heliograph serial ports` shows how ports are called"


def gateway_problems(settings: Settings) -> Iterator[Problem]:
    """All that is wrong with wires and devices."""
    yield from _twice(settings.serial)
    yield from _called_udp(settings)
    for port in settings.serial:
        for key, wrong in _port_problems(port):
            yield port.place.problem(key, wrong)
    for device in settings.mqttsn.devices:
        yield from _device_problems(device)


def _twice(ports: tuple[SerialSettings, ...]) -> Iterator[Problem]:
    seen: set[tuple[str, str]] = set()
    for port in ports:
        for key, value in (("port", port.port), ("name", port.shown_name)):
            if (key, value) in seen:
                wrong = f'"{value}" is there before: {_remedy(key, port)}'
                yield port.place.problem(key, wrong)
                break
            seen.add((key, value))


def _called_udp(settings: Settings) -> Iterator[Problem]:
    """Sockets are called udp, udp-2, ... where ports are called by their names."""
    sockets = {f"udp-{n}" for n in range(2, len(settings.mqttsn.listen) + 1)} | {"udp"}
    for port in settings.serial:
        if settings.mqttsn.listen and port.shown_name in sockets:
            wrong = f'"{port.shown_name}" is what a socket of mqttsn.listen is called'
            yield port.place.problem("name", f'{wrong}: choose another one, name = "lab"')


def _remedy(key: str, port: SerialSettings) -> str:
    if key == "port":
        return f"leave one out, or name another port; {SHOWN}"
    if port.name:
        return "choose another name"
    return 'give this port a name of its own: name = "lab"'


def _port_problems(port: SerialSettings) -> Iterator[tuple[str, str]]:
    if len(port.baud) > 1 and port.mode not in FRAMED:
        yield "baud", f'is found by HELLO, which nobody says with mode = "{port.mode}": write one'
    if len(port.baud) > MOST_RATES:
        yield "baud", f"has {len(port.baud)} rates, at most {MOST_RATES} are tried: leave some out"
    if port.flow == "rtscts" and (port.lines != "keep" or port.rs485):
        yield "flow", 'needs the line RTS, which lines or rs485 set: write flow = "none"'
    if port.password and not port.username:
        yield "password", "is of no use without a username: add one"
    if port.take_files and port.mode not in FRAMED:
        yield "take_files", 'needs frames: write mode = "auto" or "framed"'
    if port.largest_file > port.files_bytes:
        yield "largest_file", "is more than files_bytes, for all of them: lower it, or raise that"


def _device_problems(device: DeviceSettings) -> Iterator[Problem]:
    if not device.broker_client_id:
        wrong = 'is empty: write "{client_id}", which is what the device says'
        yield device.place.problem("broker_client_id", wrong)
    if device.password and not device.username:
        yield device.place.problem("password", "is of no use without a username: add one")
