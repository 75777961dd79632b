"""What the engine allows and offers: the limits and announcements of this broker, in one value."""

from dataclasses import dataclass

UNLIMITED = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """Sizes are in bytes, times in seconds; 0 means unlimited where it says so."""

    # a connection
    maximum_packet_size: int = 1_048_576  # the largest packet accepted from a client
    receive_maximum: int = 1024  # QoS 2 messages from one client that await their PUBREL
    topic_alias_maximum: int = 64  # aliases a client may set
    topic_aliases_out: bool = True  # give aliases to clients that take them
    connect_timeout: float = 10.0
    maximum_keep_alive: int = (
        0  # a longer or no keep alive is overridden (MQTT 5); 0 = the client's stands
    )
    outbox_limit: int = 1_048_576  # what may wait for a client that reads too slowly
    stall_timeout: float = 60.0  # a client that takes no byte for so long is dropped
    max_connections: int = 10_000
    max_connections_per_address: int = UNLIMITED
    connections_per_second_per_address: int = UNLIMITED

    # a session
    max_sessions: int = 100_000
    max_inflight: int = 100  # upper bound of QoS 1 and 2 messages on their way to one client
    backlog_messages: int = 10_000
    backlog_size: int = 16_777_216
    backlog_policy: str = "drop_newest"  # or "drop_oldest", "last_value", "reject"
    backlog_window: int = 256  # messages of a stored backlog in memory for one connected client
    max_session_expiry: int = 0xFFFFFFFF
    session_expiry_3_1_1: int = 604_800  # for clean session 0, which names no time itself
    max_subscriptions_per_client: int = 1000
    max_subscriptions: int = 1_000_000

    # messages
    max_topic_levels: int = 128
    max_retained_messages: int = 1_000_000
    max_retained_size: int = 268_435_456
    retained_window: int = 20_000  # more stored ones than these are not held in memory

    # what is offered
    maximum_qos: int = 2
    retain_available: bool = True
    shared_strategy: str = "round_robin"
    max_queues: int = 1000
    configured_queues: frozenset[str] = frozenset()  # by the settings of today
    broker_name: str = ""  # among those that share their queues
    create_queues: bool = False  # by clients, with `$queue/<name>/<filter>`
    response_information: str = ""  # "{client_id}" is filled in; "" = none
    server_reference: str = ""
