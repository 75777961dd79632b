"""The MQTT library (paho) with two flaws of its QoS 2 mended, so that devices keep its promise.

    a PUBLISH is not sent again once its PUBREL was   whose PUBREL is due forgets that at the second
                                                      try to connect in a row, and publishes anew
    a PUBREC with an error ends the message           it is taken for a PUBREC

The first makes two messages of one: a broker that had got the PUBREL takes what comes again for a
new message, as it must. See sections 4.3.3 and 3.5.2.1 of MQTT 5.
"""

from __future__ import annotations

from typing import Final

from paho.mqtt.client import Client
from paho.mqtt.enums import MessageState, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

REFUSED: Final = 0x80  # reasons from here on are errors
REASON: Final = 2  # where it stands in a PUBREC, behind the packet id
_NO_PROPERTIES: Final = Properties(PacketTypes.PUBREC)  # type: ignore[no-untyped-call]


class Library(Client):
    """The library's client."""

    def _messages_reconnect_reset_out(self) -> None:
        """At each try to connect: let the library see what it saw at the first one."""
        with self._out_message_mutex:
            for message in self._out_messages.values():
                if message.state == MessageState.MQTT_MS_RESEND_PUBREL:
                    message.state = MessageState.MQTT_MS_WAIT_FOR_PUBCOMP
            super()._messages_reconnect_reset_out()

    def _handle_pubrec(self) -> MQTTErrorCode:
        """A message that is refused is told of as the library does with a PUBACK."""
        told = self._in_packet["packet"]
        if len(told) <= REASON or told[REASON] < REFUSED:
            return super()._handle_pubrec()
        packet_id = int.from_bytes(told[:REASON], "big")
        reason = ReasonCode(PacketTypes.PUBREC, identifier=told[REASON])
        with self._out_message_mutex:
            if packet_id not in self._out_messages:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            return self._do_on_publish(packet_id, reason, _NO_PROPERTIES)
