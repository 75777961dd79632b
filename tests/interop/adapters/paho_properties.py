"""Between the standard's property names and the `Properties` objects of paho and aiomqtt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

if TYPE_CHECKING:
    from tests.interop.foreign import Properties

NAMES = {
    "payload_format_indicator": "PayloadFormatIndicator",
    "message_expiry_interval": "MessageExpiryInterval",
    "content_type": "ContentType",
    "response_topic": "ResponseTopic",
    "correlation_data": "CorrelationData",
    "subscription_identifier": "SubscriptionIdentifier",
    "session_expiry_interval": "SessionExpiryInterval",
    "assigned_client_identifier": "AssignedClientIdentifier",
    "server_keep_alive": "ServerKeepAlive",
    "will_delay_interval": "WillDelayInterval",
    "request_response_information": "RequestResponseInformation",
    "response_information": "ResponseInformation",
    "reason_string": "ReasonString",
    "receive_maximum": "ReceiveMaximum",
    "topic_alias_maximum": "TopicAliasMaximum",
    "topic_alias": "TopicAlias",
    "user_property": "UserProperty",
    "maximum_packet_size": "MaximumPacketSize",
}
OPTIONS = {
    "no_local": "noLocal",
    "retain_as_published": "retainAsPublished",
    "retain_handling": "retainHandling",
}

CONNECT = PacketTypes.CONNECT
WILL = PacketTypes.WILLMESSAGE
PUBLISH = PacketTypes.PUBLISH
SUBSCRIBE = PacketTypes.SUBSCRIBE


def to_paho(packet_type: int, properties: Properties | None) -> PahoProperties | None:
    if not properties:
        return None
    made = PahoProperties(packet_type)
    for name, value in properties.items():
        setattr(made, NAMES[name], value)
    return made


def from_paho(properties: PahoProperties | None) -> Properties:
    found: dict[str, Any] = {}
    for name, attribute in NAMES.items():
        if properties is not None and hasattr(properties, attribute):
            found[name] = getattr(properties, attribute)
    return found
