"""Generators of packets for hypothesis: everything each version can say, and nothing else."""

from typing import Any

from hypothesis import strategies as st

from broker.packets.codes import MQTT_5, REASONS, PacketType
from broker.packets.primitives import MAXIMUM_VARINT
from broker.packets.properties import (
    PROPERTY_TABLE,
    WILL,
    DataType,
    Properties,
    Property,
    PropertyRow,
)
from broker.packets.types import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)

versions = st.sampled_from([3, 4, 5])
strings = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
topics = st.text(
    st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=20
)
blobs = st.binary(max_size=40)
packet_ids = st.integers(1, 0xFFFF)
qos_levels = st.integers(0, 2)


def packets(version: int) -> st.SearchStrategy[Packet]:
    """Generate any packet that protocol level `version` has."""
    kinds = list(_PACKETS) if version >= MQTT_5 else [k for k in _PACKETS if k != PacketType.AUTH]
    return st.sampled_from(kinds).flatmap(lambda kind: _PACKETS[kind](version))


def properties(where: int, version: int) -> st.SearchStrategy[Properties]:
    """Generate properties for a packet type or WILL; none below MQTT 5."""
    if version < MQTT_5:
        return st.just({})
    rows = [row for row in PROPERTY_TABLE if where in row.packets]
    block = st.fixed_dictionaries({}, optional={int(r.identifier): _values(r, where) for r in rows})
    return block.filter(_has_its_method) if where == PacketType.CONNECT else block


def _has_its_method(block: Properties) -> bool:
    return Property.AUTHENTICATION_DATA not in block or Property.AUTHENTICATION_METHOD in block


def _values(row: PropertyRow, where: int) -> st.SearchStrategy[Any]:
    if row.identifier == Property.USER_PROPERTY:
        return st.lists(st.tuples(strings, strings), min_size=1, max_size=3)
    if row.identifier == Property.SUBSCRIPTION_IDENTIFIER:
        most = 3 if where == PacketType.PUBLISH else 1
        return st.lists(st.integers(1, MAXIMUM_VARINT), min_size=1, max_size=most)
    if row.identifier == Property.RESPONSE_TOPIC:
        return topics
    if row.data_type is DataType.STRING:
        return strings
    if row.data_type is DataType.BINARY:
        return blobs
    return st.integers(row.low, row.high)


def _connects(version: int) -> st.SearchStrategy[Connect]:
    wills = st.builds(
        Will, topics, blobs, qos_levels, st.booleans(), properties=properties(WILL, version)
    )
    made = st.builds(
        Connect,
        client_id=strings,
        clean_start=st.booleans(),
        keep_alive=st.integers(0, 0xFFFF),
        username=st.none() | strings,
        password=st.none() | blobs,
        will=st.none() | wills,
        properties=properties(PacketType.CONNECT, version),
        version=st.just(version),
    )
    if version >= MQTT_5:
        return made
    return made.filter(lambda packet: packet.username is not None or packet.password is None)


def _connacks(version: int) -> st.SearchStrategy[Connack]:
    codes = sorted(REASONS[PacketType.CONNACK]) if version >= MQTT_5 else [0, 1, 2, 3, 4, 5]
    return st.builds(
        Connack,
        session_present=st.booleans(),
        reason=st.sampled_from(codes),
        properties=properties(PacketType.CONNACK, version),
    ).filter(lambda packet: not (packet.session_present and packet.reason))


def _publishes(version: int) -> st.SearchStrategy[Publish]:
    def with_qos(qos: int) -> st.SearchStrategy[Publish]:
        return st.builds(
            Publish,
            topic=topics,
            payload=st.binary(max_size=300),
            qos=st.just(qos),
            retain=st.booleans(),
            dup=st.booleans() if qos else st.just(False),
            packet_id=packet_ids if qos else st.just(0),
            properties=properties(PacketType.PUBLISH, version),
        )

    return qos_levels.flatmap(with_qos)


def _acks(kind: PacketType, make: Any) -> Any:
    def acks(version: int) -> st.SearchStrategy[Packet]:
        reasons = sorted(REASONS[kind]) if version >= MQTT_5 else [0]
        return st.builds(make, packet_ids, st.sampled_from(reasons), properties(kind, version))

    return acks


def _subscribes(version: int) -> st.SearchStrategy[Subscribe]:
    if version >= MQTT_5:
        requests = st.builds(
            SubscriptionRequest,
            strings,
            qos_levels,
            st.booleans(),
            st.booleans(),
            st.integers(0, 2),
        ).filter(lambda request: not (request.no_local and request.filter.startswith("$share/")))
    else:
        requests = st.builds(SubscriptionRequest, strings, qos_levels)
    return st.builds(
        Subscribe,
        packet_ids,
        st.lists(requests, min_size=1, max_size=4),
        properties(PacketType.SUBSCRIBE, version),
    )


def _subacks(version: int) -> st.SearchStrategy[Suback]:
    codes = sorted(REASONS[PacketType.SUBACK]) if version >= MQTT_5 else [0, 1, 2, 0x80]
    reasons = st.lists(st.sampled_from(codes), min_size=1, max_size=4)
    return st.builds(Suback, packet_ids, reasons, properties(PacketType.SUBACK, version))


def _unsubscribes(version: int) -> st.SearchStrategy[Unsubscribe]:
    filters = st.lists(strings, min_size=1, max_size=4)
    return st.builds(Unsubscribe, packet_ids, filters, properties(PacketType.UNSUBSCRIBE, version))


def _unsubacks(version: int) -> st.SearchStrategy[Unsuback]:
    if version < MQTT_5:
        return st.builds(Unsuback, packet_ids)
    reasons = st.sampled_from(sorted(REASONS[PacketType.UNSUBACK]))
    return st.builds(
        Unsuback,
        packet_ids,
        st.lists(reasons, min_size=1, max_size=4),
        properties(PacketType.UNSUBACK, version),
    )


def _outcomes(kind: PacketType, make: Any) -> Any:
    def outcomes(version: int) -> st.SearchStrategy[Packet]:
        reasons = sorted(REASONS[kind]) if version >= MQTT_5 else [0]
        return st.builds(make, st.sampled_from(reasons), properties(kind, version))

    return outcomes


_PACKETS: dict[PacketType, Any] = {
    PacketType.CONNECT: _connects,
    PacketType.CONNACK: _connacks,
    PacketType.PUBLISH: _publishes,
    PacketType.PUBACK: _acks(PacketType.PUBACK, Puback),
    PacketType.PUBREC: _acks(PacketType.PUBREC, Pubrec),
    PacketType.PUBREL: _acks(PacketType.PUBREL, Pubrel),
    PacketType.PUBCOMP: _acks(PacketType.PUBCOMP, Pubcomp),
    PacketType.SUBSCRIBE: _subscribes,
    PacketType.SUBACK: _subacks,
    PacketType.UNSUBSCRIBE: _unsubscribes,
    PacketType.UNSUBACK: _unsubacks,
    PacketType.PINGREQ: lambda version: st.builds(Pingreq),
    PacketType.PINGRESP: lambda version: st.builds(Pingresp),
    PacketType.DISCONNECT: _outcomes(PacketType.DISCONNECT, Disconnect),
    PacketType.AUTH: _outcomes(PacketType.AUTH, Auth),
}
