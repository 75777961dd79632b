"""A client id is at one place of all gateways."""

from bridges.gateway.house import House, OnePlace, Room
from bridges.mqttsn.codes import Flags, ReturnCode
from bridges.mqttsn.packets import Connack, Connect, Disconnect, Pingreq
from bridges.mqttsn.ports import Identity, Stage
from tests.unit.mqttsn.world import World

CONNECT = Connect(Flags(), 60, "dev")


class TwoPorts:
    def __init__(self) -> None:
        self.house = House()
        self.is_open = True
        self.one, self.two = World(), World()
        for name, world in (("one", self.one), ("two", self.two)):
            world.gateway._admission = OnePlace(self.house, name, world.admission)
            self.house.add(Room(name, world.gateway, lambda: self.is_open))
        self.session = self.one.join(clean=False)


def test_a_client_id_that_is_connected_at_another_port_is_refused() -> None:
    ports = TwoPorts()
    assert ports.two.say(CONNECT) == [Connack(ReturnCode.CONGESTION)]
    assert ports.session.closed is None


def test_a_device_that_was_plugged_in_elsewhere_goes_on_there_without_its_will() -> None:
    ports = TwoPorts()
    ports.is_open = False
    assert ports.two.say(CONNECT) == []
    assert ports.session.closed is False
    assert ports.one.device() is None
    note = ports.one.notebook.read("dev")
    assert note is not None
    assert note.stage is Stage.AWAY
    assert ports.two.session.opening.identity.client_id == "dev"


def test_a_device_is_none_of_the_gateways_own_clients() -> None:
    world = World()
    house = House({"serial-barn"})
    world.gateway._admission = OnePlace(house, "one", world.admission)
    house.add(Room("one", world.gateway, lambda: True))
    claim = Connect(Flags(), 60, "serial-barn")
    assert world.say(claim) == [Connack(ReturnCode.NOT_SUPPORTED)]
    assert world.counts["claims a client id of the gateway"] == 1
    assert world.broker.sessions == []


def test_a_device_may_connect_again_where_it_is() -> None:
    ports = TwoPorts()
    ports.one.say(Pingreq())
    assert ports.one.say(CONNECT) == [Connack(0)]


def test_a_device_is_sent_away_and_forgotten_wherever_it_is() -> None:
    ports = TwoPorts()
    assert ports.house.expel("dev")
    assert ports.one.hear() == [Disconnect()]
    assert not ports.house.expel("dev")
    assert ports.house.forget("dev")
    assert ports.one.broker.ended == [Identity("dev")]  # it is not to wait for it for ever
    assert not ports.house.forget("dev")
