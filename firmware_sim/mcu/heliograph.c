/* SPDX-License-Identifier: Apache-2.0
 *
 * The framed link and MQTT-SN 1.2; see heliograph.h. In the order in which bytes come and go:
 *
 *     check, COBS       a frame on the wire
 *     the link          HELLO, sequence, acknowledgement: at most one message out, each message in passed on once
 *     MQTT-SN           at most one request out; which one is next, `next_request` says
 *     time, files       their channels
 *
 * Nothing is queued. What is owed to the gateway and what is wanted from it are a few variables, and packets are made from them
 * when the link takes one.
 */
#include "heliograph.h"

#include <string.h>

enum {
    HEADER = 2,
    CHECK = HG_CRC32 ? 4 : 2,
    BODY = HEADER + HG_PAYLOAD,
    HELLO_MOST = 50,
    FRAME = BODY + CHECK + 2, /* with what COBS adds */
    TOO_LONG = FRAME + 1
};

/* Milliseconds. */
enum { HELLO_WAIT = 500, ACK_WAIT = 200, CREDIT_WAIT = 2000, ANSWER_WAIT = 10000 };
enum { LINK_TRIES = 8, ANSWER_TRIES = 4 };

enum { CHANNEL_LINK, CHANNEL_SN, CHANNEL_LOG, CHANNEL_TIME, CHANNEL_FILES };
enum { RELIABLE = 0x10, KIND_HELLO = 0x10 };
enum { HELLO_OPEN = 0x01, HELLO_USED = 0x02 };
enum { CAN_CRC32 = 0x01, CAN_TIME = 0x02, CAN_FILES = 0x04, CAN_LOG = 0x08, SLEEPS = 0x10 };
enum { CAPABILITIES = SLEEPS + (HG_CRC32 ? CAN_CRC32 : 0) + (HG_TIME ? CAN_TIME : 0) + (HG_FILES ? CAN_FILES : 0)
           + (HG_LOG ? CAN_LOG : 0) };

static struct {
    uint32_t due; /* when to say HELLO, or the pending message, again */
    uint16_t nonce;
    uint16_t peer; /* its nonce; 0: not known */
    bool is_open;
    bool owes_hello;
    bool owes_ack;
    bool is_strong; /* CRC-32 both ways */
    uint8_t expected;
    uint8_t sequence; /* of the pending message */
    uint8_t pending;  /* its size; 0: none */
    uint8_t channel;  /* of it */
    uint8_t tries;
    uint8_t credit;
    uint8_t limit; /* of a message to the peer */
    uint8_t room;  /* left in `out` for the packet that is being made */
    uint8_t filled;
    uint8_t frame_size;
    uint8_t frame[FRAME];
    uint8_t out[BODY + CHECK];
} lnk;

/* Types of MQTT-SN messages (table 3 of the standard). */
enum {
    NOTHING = 0xFF,
    CONNECT = 0x04,
    CONNACK = 0x05,
    WILLTOPICREQ = 0x06,
    WILLTOPIC = 0x07,
    WILLMSGREQ = 0x08,
    WILLMSG = 0x09,
    REGISTER = 0x0A,
    REGACK = 0x0B,
    PUBLISH = 0x0C,
    PUBACK = 0x0D,
    PUBCOMP = 0x0E,
    PUBREC = 0x0F,
    PUBREL = 0x10,
    SUBSCRIBE = 0x12,
    SUBACK = 0x13,
    PINGREQ = 0x16,
    PINGRESP = 0x17,
    DISCONNECT = 0x18
};

enum { ACCEPTED, CONGESTION, INVALID_TOPIC_ID, NOT_SUPPORTED };
enum { DUP = 0x80, QOS = 0x60, WILL = 0x08, CLEAN = 0x04, TOPIC_TYPE = 0x03 };
enum { IS_SUBSCRIBED = 0x80 }; /* a topic's own bit */
enum { WANT_SLEEP = 1, WANT_WAKE = 2, WANT_BYE = 4 };

static struct {
    const struct hg_config *config;
    const uint8_t *data;  /* of the message that is published */
    uint32_t asked;       /* when the request was sent */
    uint32_t heard;       /* when something came, or was asked for, while collecting */
    uint32_t said;        /* when something was last sent */
    uint16_t last_id;     /* message ids that were used */
    uint16_t request_id;
    uint16_t message_id;
    uint16_t received_id; /* of QoS 2, not released yet */
    uint16_t sleep;       /* seconds */
    uint16_t owed_topic;
    uint16_t owed_id;
    uint8_t owed; /* the type of the answer that is to be sent */
    uint8_t owed_code;
    uint8_t state;
    uint8_t wants;
    uint8_t request; /* the type that awaits its answer */
    uint8_t request_topic;
    uint8_t tries;
    uint8_t pings; /* while awake: how often it was said, without anything that came */
    uint8_t step;  /* of the message: NOTHING, PUBLISH or PUBREL */
    uint8_t topic; /* of the message: number, size, flags */
    uint8_t size;
    uint8_t flags;
    uint8_t refusals; /* of the message, for its topic's id */
    bool is_bye; /* the DISCONNECT that was said is none for sleeping */
} cli;

static uint16_t get16(const uint8_t *at) {
    return (uint16_t)((uint16_t)at[0] << 8 | at[1]);
}

/* ---- The check ---- */

/* CRC-16/GENIBUS without its inversion, a byte at a time. */
static uint16_t crc16(uint16_t crc, uint8_t byte) {
    uint8_t x = (uint8_t)(crc >> 8 ^ byte);
    x = (uint8_t)(x ^ x >> 4);
    return (uint16_t)((unsigned)crc << 8 ^ (unsigned)x << 12 ^ (unsigned)x << 5 ^ x);
}

static uint16_t crc16_nonce(uint16_t crc, uint16_t nonce) {
    return crc16(crc16(crc, (uint8_t)(nonce >> 8)), (uint8_t)nonce);
}

#if HG_CRC32
static uint32_t crc32(uint32_t crc, uint8_t byte) {
    crc ^= byte;
    for (uint8_t bit = 0; bit < 8; bit++) {
        crc = crc & 1 ? crc >> 1 ^ 0xEDB88320 : crc >> 1;
    }
    return crc;
}

static uint32_t crc32_nonce(uint32_t crc, uint16_t nonce) {
    return crc32(crc32(crc, (uint8_t)(nonce >> 8)), (uint8_t)nonce);
}
#endif

static bool is_hello(const uint8_t *body) {
    return body[0] == 0 && body[1] == KIND_HELLO;
}

static uint8_t check_size(const uint8_t *body) {
    return HG_CRC32 && lnk.is_strong && !is_hello(body) ? 4 : 2;
}

/* The check of a body from `sender` to `receiver`, most significant byte first, into `check`. */
static void make_check(const uint8_t *body, uint8_t size, uint16_t sender, uint16_t receiver, uint8_t *check) {
    uint16_t crc = 0xFFFF;
#if HG_CRC32
    if (check_size(body) == 4) {
        uint32_t strong = crc32_nonce(crc32_nonce(0xFFFFFFFF, sender), receiver);
        while (size--) {
            strong = crc32(strong, *body++);
        }
        strong = ~strong;
        check[0] = (uint8_t)(strong >> 24);
        check[1] = (uint8_t)(strong >> 16);
        check[2] = (uint8_t)(strong >> 8);
        check[3] = (uint8_t)strong;
        return;
    }
#endif
    if (!is_hello(body)) {
        crc = crc16_nonce(crc16_nonce(crc, sender), receiver);
    }
    while (size--) {
        crc = crc16(crc, *body++);
    }
    crc = (uint16_t)~crc;
    check[0] = (uint8_t)(crc >> 8);
    check[1] = (uint8_t)crc;
}

/* ---- COBS ---- */

static void write_frame(const uint8_t *data, uint8_t size) {
    uint8_t at = 0;
    for (;;) {
        uint8_t start = at;
        while (at < size && data[at] && at - start < 254) {
            at++;
        }
        uint8_t run = (uint8_t)(at - start);
        hg_port_write((uint8_t)(run + 1));
        while (start < at) {
            hg_port_write(data[start++]);
        }
        if (at == size) {
            break;
        }
        if (run < 254) {
            at++; /* the zero that the code stands for */
        }
    }
    hg_port_write(0);
}

/* Decode in place; returns the size, 0: damaged. */
static uint8_t decode_frame(uint8_t *data, uint8_t size) {
    uint8_t from = 0, to = 0;
    while (from < size) {
        uint8_t code = data[from++];
        if (code == 0 || code - 1 > size - from) {
            return 0;
        }
        for (uint8_t left = code; --left;) {
            data[to++] = data[from++];
        }
        if (code != 0xFF && from < size) {
            data[to++] = 0;
        }
    }
    return to;
}

/* ---- The link: what goes out ---- */

/* Seal and send a body; it has room for the check behind it. */
static void transmit(uint8_t *body, uint8_t size) {
    make_check(body, size, lnk.nonce, lnk.peer, body + size);
    write_frame(body, (uint8_t)(size + check_size(body)));
}

static void send_pending(void) {
    lnk.owes_ack = false;
    lnk.out[0] = (uint8_t)(lnk.channel << 5 | RELIABLE | HG_WINDOW);
    lnk.out[1] = (uint8_t)(lnk.sequence << 4 | lnk.expected);
    transmit(lnk.out, (uint8_t)(HEADER + lnk.pending));
    lnk.due = hg_port_millis() + ACK_WAIT;
}

static void send_ack(void) {
    uint8_t body[HEADER + 4];
    lnk.owes_ack = false;
    body[0] = HG_WINDOW;
    body[1] = lnk.expected;
    transmit(body, HEADER);
}

static uint8_t put_text(uint8_t *to, const char *text) {
    uint8_t size = 0;
    char c;
    while (size < 16 && (c = (char)HG_FLASH_BYTE(text + size)) != 0) {
        to[++size] = (uint8_t)c;
    }
    to[0] = size;
    return (uint8_t)(size + 1);
}

static void send_hello(void) {
    uint8_t body[HELLO_MOST + 2];
    uint8_t size = 16;
    lnk.owes_hello = false;
    body[0] = 0;
    body[1] = KIND_HELLO;
    body[2] = 1;
    body[3] = lnk.is_open;
    body[4] = (uint8_t)(lnk.nonce >> 8);
    body[5] = (uint8_t)lnk.nonce;
    body[6] = (uint8_t)(lnk.peer >> 8);
    body[7] = (uint8_t)lnk.peer;
    body[8] = CAPABILITIES;
    body[9] = HG_WINDOW;
    body[10] = 0;
    body[11] = HG_PAYLOAD;
    body[12] = HG_BUFFER >> 8;
    body[13] = HG_BUFFER & 0xFF;
    body[14] = HG_RATE >> 8;
    body[15] = HG_RATE & 0xFF;
    size = (uint8_t)(size + put_text(body + size, cli.config->client_id));
    size = (uint8_t)(size + put_text(body + size, cli.config->firmware));
    hg_port_write(0);
    transmit(body, size);
}

/* Whether a message may be made in lnk.out now. */
static bool is_free(void) {
    if (!lnk.is_open || lnk.pending) {
        return false;
    }
    return lnk.credit || (int32_t)(hg_port_millis() - lnk.due) > CREDIT_WAIT - ACK_WAIT;
}

/* A packet is made in lnk.out with these, then sent. */
static void begin_packet(void) {
    lnk.filled = HEADER;
    lnk.room = lnk.limit;
}

static void put(uint8_t byte) {
    if (lnk.room) {
        lnk.room--;
        lnk.out[lnk.filled++] = byte;
    }
}

static void put16(uint16_t value) {
    put((uint8_t)(value >> 8));
    put((uint8_t)value);
}

static void put_flash(const char *text) {
    char c;
    while ((c = (char)HG_FLASH_BYTE(text++)) != 0) {
        put((uint8_t)c);
    }
}

static void send_packet(uint8_t channel) {
    lnk.channel = channel;
    lnk.pending = (uint8_t)(lnk.filled - HEADER);
    lnk.tries = 0;
    send_pending();
}

static void tick_link(void) {
    if ((int32_t)(hg_port_millis() - lnk.due) < 0) {
        return;
    }
    if (!lnk.is_open) {
        lnk.owes_hello = true;
        lnk.due = hg_port_millis() + HELLO_WAIT;
    } else if (lnk.pending) {
        hg_port_write(0); /* what was lost may have lost its end */
        send_pending();
        if (++lnk.tries > LINK_TRIES) {
            lnk.is_open = false;
        }
    }
}

/* ---- MQTT-SN: what is next, and how it is said ---- */

static bool is_past(uint32_t since, uint32_t wait) {
    return hg_port_millis() - since >= wait;
}

static struct hg_topic *topic_at(uint8_t number) {
    return cli.config->topics + number;
}

static void be_connecting(void) {
    cli.state = HG_CONNECTING;
    cli.request = cli.owed = NOTHING;
    for (uint8_t number = 0; number < cli.config->topic_count; number++) {
        struct hg_topic *topic = topic_at(number);
        topic->flags &= (uint8_t)~IS_SUBSCRIBED;
        if (!(topic->flags & HG_PREDEFINED)) {
            topic->id = topic->flags & HG_SHORT ? topic->id : 0;
        }
    }
}

/* The gateway does not know us any more: begin at the beginning, and keep what is wanted. */
static void lose(void) {
    if (cli.state == HG_OFF) {
        return;
    }
    if (cli.state >= HG_ASLEEP) {
        cli.wants |= WANT_SLEEP;
    }
    cli.wants &= (uint8_t)~WANT_WAKE;
    bool was_up = cli.state != HG_CONNECTING;
    be_connecting();
    if (was_up) {
        hg_on_event(HG_DOWN, 0);
    }
}

static uint8_t next_for_message(void) {
    if (cli.step == PUBLISH && topic_at(cli.topic)->id == 0) {
        cli.request_topic = cli.topic;
        return REGISTER;
    }
    return cli.step;
}

static bool is_connectionless(void) {
    return cli.step == PUBLISH && (cli.flags & QOS) == HG_QOS_NONE;
}

/* How long to wait for more before asking again: the gateway must not take us for lost meanwhile. */
static uint32_t waking_wait(void) {
    return cli.sleep < ANSWER_WAIT / 500 ? cli.sleep * (uint32_t)500 : ANSWER_WAIT;
}

/* The type of what is to be said next; NOTHING. */
static uint8_t next_request(void) {
    if (is_connectionless()) {
        return PUBLISH;
    }
    if (cli.state == HG_OFF) {
        return NOTHING;
    }
    if (cli.state == HG_CONNECTING) {
        return CONNECT;
    }
    for (uint8_t number = 0; number < cli.config->topic_count; number++) {
        if ((topic_at(number)->flags & (HG_SUBSCRIBE | IS_SUBSCRIBED)) == HG_SUBSCRIBE) {
            cli.request_topic = number;
            return SUBSCRIBE;
        }
    }
    if (cli.step != NOTHING) {
        return next_for_message();
    }
    if (cli.wants & (WANT_BYE | WANT_SLEEP)) {
        return DISCONNECT;
    }
    if (cli.wants & WANT_WAKE && (!cli.pings || is_past(cli.heard, waking_wait()))) {
        return PINGREQ;
    }
    if (cli.state == HG_ACTIVE && cli.config->keep_alive && is_past(cli.said, (uint32_t)cli.config->keep_alive * 800)) {
        return PINGREQ;
    }
    return NOTHING;
}

static void put_connect(void) {
    put((uint8_t)((HG_WILL && cli.config->will_topic ? WILL : 0) | (cli.config->clean_session ? CLEAN : 0)));
    put(1);
    put16(cli.config->keep_alive);
    put_flash(cli.config->client_id);
}

static void put_register(void) {
    put16(0);
    put16(cli.request_id);
    put_flash(topic_at(cli.request_topic)->name);
}

static void put_subscribe(void) {
    struct hg_topic *topic = topic_at(cli.request_topic);
    put((uint8_t)((cli.tries ? DUP : 0) | (topic->flags & (QOS | TOPIC_TYPE))));
    put16(cli.request_id);
    if (topic->flags & HG_PREDEFINED) {
        put16(topic->id);
    } else {
        put_flash(topic->name);
    }
}

static void put_publish(void) {
    struct hg_topic *topic = topic_at(cli.topic);
    put((uint8_t)(cli.flags | (topic->flags & TOPIC_TYPE)));
    put16(topic->id);
    put16(cli.message_id);
    for (uint8_t at = 0; at < cli.size; at++) {
        put(cli.data[at]);
    }
}

static void put_answer(void) {
    if (cli.owed == PUBACK || cli.owed == REGACK) {
        put16(cli.owed_topic);
    }
    put16(cli.owed_id);
    if (cli.owed == PUBACK || cli.owed == REGACK) {
        put(cli.owed_code);
    }
}

/* Make a packet of that type from what is known, and send it. */
static void say(uint8_t type) {
    begin_packet();
    put(0);
    put(type);
    switch (type) {
    case CONNECT: put_connect(); break;
#if HG_WILL
    case WILLTOPIC:
        put(cli.config->will_flags & (QOS | HG_RETAIN));
        put_flash(cli.config->will_topic);
        break;
    case WILLMSG: put_flash(cli.config->will_message); break;
#endif
    case REGISTER: put_register(); break;
    case PUBLISH: put_publish(); break;
    case PUBREL: put16(cli.message_id); break;
    case SUBSCRIBE: put_subscribe(); break;
    case PINGREQ:
        if (cli.wants & WANT_WAKE) {
            put_flash(cli.config->client_id);
        }
        break;
    case PINGRESP: break;
    case DISCONNECT:
        cli.is_bye = cli.wants & WANT_BYE;
        if (!cli.is_bye) {
            put16(cli.sleep);
        }
        break;
    default: put_answer(); break;
    }
    lnk.out[HEADER] = (uint8_t)(lnk.filled - HEADER);
    cli.said = hg_port_millis();
    send_packet(CHANNEL_SN);
}

static uint16_t new_id(void) {
    cli.last_id = (uint16_t)(cli.last_id + 1);
    if (cli.last_id == 0) {
        cli.last_id = 1;
    }
    return cli.last_id;
}

static void end_message(enum hg_event event, uint8_t value) {
    cli.step = NOTHING;
    hg_on_event(event, value);
}

/* What was said needs an answer, or not. */
static void await_answer(uint8_t type) {
    cli.request = type;
    cli.asked = hg_port_millis();
    if (type == PINGREQ && cli.wants & WANT_WAKE) { /* other things may be said until it is answered */
        cli.request = NOTHING;
        cli.heard = cli.asked;
        if (++cli.pings > ANSWER_TRIES + 1) {
            lose();
        }
    }
    if (type != PUBLISH) {
        return;
    }
    if (!(cli.flags & QOS) || (cli.flags & QOS) == HG_QOS_NONE) {
        cli.request = NOTHING;
        end_message(HG_PUBLISHED, 0);
    } else {
        cli.flags |= DUP; /* from the second time on */
    }
}

static void tick_client(void) {
    if (!is_free()) {
        return;
    }
    if (cli.owed != NOTHING) {
        say(cli.owed);
        cli.owed = NOTHING;
        return;
    }
    uint8_t type = cli.request;
    if (type == NOTHING) {
        type = next_request();
        cli.tries = 0;
        cli.request_id = type == SUBSCRIBE || type == REGISTER ? new_id() : cli.request_id;
    } else if (!is_past(cli.asked, ANSWER_WAIT)) {
        return;
    } else if (++cli.tries > ANSWER_TRIES && type != CONNECT) {
        lose();
        return;
    }
    if (type != NOTHING) {
        say(type);
        await_answer(type);
    }
}

/* ---- MQTT-SN: what comes ---- */

static bool is_answered(uint8_t type) {
    if (cli.request != type) {
        return false;
    }
    cli.request = NOTHING;
    return true;
}

static void owe(uint8_t type, uint16_t topic, uint16_t id, uint8_t code) {
    cli.owed = type;
    cli.owed_topic = topic;
    cli.owed_id = id;
    cli.owed_code = code;
}

static void on_connack(uint8_t code) {
    if (cli.request != CONNECT) {
        return;
    }
    if (code != ACCEPTED) { /* asked again when the wait is over */
        hg_on_event(HG_REFUSED, code);
        return;
    }
    cli.request = NOTHING;
    cli.state = HG_ACTIVE;
    hg_on_event(HG_UP, 0);
}

/* A name of the gateway's; true if it is the topic's. */
static bool is_name(const char *name, const uint8_t *text, uint8_t size) {
    while (size--) {
        if (HG_FLASH_BYTE(name) == 0 || HG_FLASH_BYTE(name) != *text) {
            return false;
        }
        name++;
        text++;
    }
    return HG_FLASH_BYTE(name) == 0;
}

static void on_register(const uint8_t *p, uint8_t size) {
    uint8_t code = NOT_SUPPORTED;
    for (uint8_t number = 0; number < cli.config->topic_count; number++) {
        struct hg_topic *topic = topic_at(number);
        if (!(topic->flags & TOPIC_TYPE) && is_name(topic->name, p + 4, (uint8_t)(size - 4))) {
            topic->id = get16(p);
            code = ACCEPTED;
        }
    }
    owe(REGACK, get16(p), get16(p + 2), code);
}

static void on_regack(const uint8_t *p) {
    if (get16(p + 2) != cli.request_id || !is_answered(REGISTER)) {
        return;
    }
    if (p[4] == ACCEPTED && get16(p)) {
        topic_at(cli.request_topic)->id = get16(p);
    } else if (p[4] == CONGESTION) {
        cli.request = REGISTER; /* again when the wait is over */
    } else {
        end_message(HG_FAILED, p[4]);
    }
}

static uint8_t topic_of(uint8_t type, uint16_t id) {
    uint8_t number = 0;
    while (number < cli.config->topic_count
           && (topic_at(number)->id != id || (topic_at(number)->flags & TOPIC_TYPE) != type)) {
        number++;
    }
    return number;
}

static void on_publish(const uint8_t *p, uint8_t size) {
    uint8_t qos = p[0] & QOS;
    uint16_t topic_id = get16(p + 1), id = get16(p + 3);
    uint8_t number = topic_of(p[0] & TOPIC_TYPE, topic_id);
    if (number == cli.config->topic_count || topic_id == 0) {
        owe(PUBACK, topic_id, id, INVALID_TOPIC_ID);
        return;
    }
    if (qos == HG_QOS_2 && !HG_QOS2) {
        owe(PUBACK, topic_id, id, NOT_SUPPORTED);
    } else if (qos == HG_QOS_2 && p[0] & DUP && id == cli.received_id) {
        owe(PUBREC, 0, id, 0); /* it was there before */
    } else if (!hg_on_message(number, p + 5, (uint8_t)(size - 5))) {
        if (qos == HG_QOS_1 || qos == HG_QOS_2) {
            owe(PUBACK, topic_id, id, CONGESTION);
        }
    } else if (qos == HG_QOS_1) {
        owe(PUBACK, topic_id, id, ACCEPTED);
    } else if (qos == HG_QOS_2) {
        cli.received_id = id;
        owe(PUBREC, 0, id, 0);
    }
}

static void on_puback(const uint8_t *p) {
    uint8_t code = p[4];
    if (cli.step != PUBLISH || get16(p + 2) != cli.message_id || !is_answered(PUBLISH)) {
        return;
    }
    if (code == CONGESTION) {
        cli.request = PUBLISH;
    } else if (code == INVALID_TOPIC_ID && !(topic_at(cli.topic)->flags & TOPIC_TYPE) && cli.refusals++ < ANSWER_TRIES) {
        topic_at(cli.topic)->id = 0; /* it is to be registered, and then published again */
    } else {
        end_message(code == ACCEPTED ? HG_PUBLISHED : HG_FAILED, code);
    }
}

#if HG_QOS2
static void on_pubrec(const uint8_t *p) {
    if (get16(p) != cli.message_id || cli.step == NOTHING) {
        return;
    }
    if (cli.step == PUBREL || is_answered(PUBLISH)) {
        cli.step = PUBREL;
        if (cli.request == PUBREL) {
            cli.request = NOTHING;
        }
    }
}

static void on_pubrel(const uint8_t *p) {
    if (get16(p) == cli.received_id) {
        cli.received_id = 0;
    }
    owe(PUBCOMP, 0, get16(p), 0);
}

static void on_pubcomp(const uint8_t *p) {
    if (cli.step == PUBREL && get16(p) == cli.message_id && is_answered(PUBREL)) {
        end_message(HG_PUBLISHED, 0);
    }
}
#endif

static void on_suback(const uint8_t *p) {
    struct hg_topic *topic = topic_at(cli.request_topic);
    if (get16(p + 3) != cli.request_id || !is_answered(SUBSCRIBE)) {
        return;
    }
    if (p[5] == CONGESTION) {
        cli.request = SUBSCRIBE;
        return;
    }
    topic->flags |= IS_SUBSCRIBED;
    if (p[5] == ACCEPTED && !(topic->flags & TOPIC_TYPE)) {
        topic->id = get16(p + 1);
    }
    hg_on_event(p[5] == ACCEPTED ? HG_SUBSCRIBED : HG_NOT_SUBSCRIBED, cli.request_topic);
}

static void on_pingresp(void) {
    if (is_answered(PINGREQ) || !(cli.wants & WANT_WAKE)) {
        return;
    }
    cli.wants &= (uint8_t)~WANT_WAKE;
    cli.state = HG_ASLEEP;
    hg_on_event(HG_COLLECTED, 0);
}

static void on_disconnect(void) {
    if (!is_answered(DISCONNECT)) {
        lose();
        return;
    }
    if (cli.is_bye) {
        cli.wants = 0;
        cli.state = HG_OFF;
        hg_on_event(HG_GONE, 0);
        return;
    }
    cli.wants &= (uint8_t)~WANT_SLEEP;
    cli.state = HG_ASLEEP;
    hg_on_event(HG_SLEEPS, 0);
}

/* How many bytes each type has at least, behind its type. */
static uint8_t least(uint8_t type) {
    switch (type) {
    case CONNACK: return 1;
    case REGISTER: case REGACK: case PUBLISH: case PUBACK: return 5;
    case PUBCOMP: case PUBREC: case PUBREL: return 2;
    case SUBACK: return 6;
    default: return 0;
    }
}

static void on_packet(const uint8_t *p, uint8_t size) {
    if (size < 2) {
        return;
    }
    if (p[0] == 1) { /* a length of three bytes */
        if (size < 4 || p[1]) {
            return;
        }
        p += 2;
        size = (uint8_t)(size - 2);
        if (p[0] != size + 2) {
            return;
        }
    } else if (p[0] != size) {
        return;
    }
    uint8_t type = p[1];
    p += 2;
    size = (uint8_t)(size - 2);
    if (size < least(type) || cli.state == HG_OFF) {
        return;
    }
    if (type != PINGRESP && cli.pings) {
        cli.pings = 1; /* it is sending what had waited */
    }
    cli.heard = hg_port_millis();
    switch (type) {
    case CONNACK: on_connack(p[0]); break;
#if HG_WILL
    case WILLTOPICREQ: case WILLMSGREQ:
        if (cli.request == CONNECT && cli.config->will_topic) {
            cli.owed = (uint8_t)(type + 1);
        }
        break;
#endif
    case REGISTER: on_register(p, size); break;
    case REGACK: on_regack(p); break;
    case PUBLISH: on_publish(p, size); break;
    case PUBACK: on_puback(p); break;
#if HG_QOS2
    case PUBREC: on_pubrec(p); break;
    case PUBREL: on_pubrel(p); break;
    case PUBCOMP: on_pubcomp(p); break;
#endif
    case SUBACK: on_suback(p); break;
    case PINGREQ: cli.owed = PINGRESP; break;
    case PINGRESP: on_pingresp(); break;
    case DISCONNECT: on_disconnect(); break;
    default: break;
    }
}

/* ---- The log ---- */

#if HG_LOG
bool hg_log(const char *text, uint8_t size) {
    if (!lnk.is_open || lnk.pending || size > lnk.limit) {
        return false;
    }
    lnk.out[0] = (uint8_t)(CHANNEL_LOG << 5 | HG_WINDOW);
    lnk.out[1] = lnk.expected;
    memcpy(lnk.out + HEADER, text, size);
    transmit(lnk.out, (uint8_t)(HEADER + size));
    return true;
}
#endif

/* ---- Time ---- */

#if HG_TIME
static struct {
    uint64_t epoch;    /* milliseconds at `at` */
    uint32_t at;
    uint32_t asked;
    uint16_t best;     /* the shortest round trip */
    uint8_t token;
    uint8_t questions; /* left */
    bool is_waiting;
} tim;

void hg_ask_time(void) {
    tim.questions = 4;
    tim.best = 1000;
    tim.is_waiting = false;
}

uint64_t hg_time(void) {
    if (tim.epoch == 0) {
        return 0;
    }
    uint32_t now = hg_port_millis();
    tim.epoch += now - tim.at;
    tim.at = now;
    return tim.epoch;
}

static void tick_time(void) {
    if (!lnk.is_open || tim.questions == 0) {
        return;
    }
    if (tim.is_waiting && !is_past(tim.asked, 1000)) {
        return;
    }
    if (tim.is_waiting && --tim.questions == 0) {
        return;
    }
    uint8_t body[HEADER + 2 + 4];
    body[0] = (uint8_t)(CHANNEL_TIME << 5 | HG_WINDOW);
    body[1] = lnk.expected;
    body[2] = 1;
    body[3] = ++tim.token;
    tim.asked = hg_port_millis();
    tim.is_waiting = true;
    transmit(body, HEADER + 2);
}

static void on_time(const uint8_t *p, uint8_t size) {
    uint32_t now = hg_port_millis(), trip = now - tim.asked;
    if (size < 10 || p[0] != 2 || p[1] != tim.token || !tim.is_waiting || trip > 1000) {
        return;
    }
    tim.is_waiting = false;
    tim.questions--;
    if (trip < tim.best || tim.epoch == 0) {
        tim.epoch = 0;
        for (uint8_t at = 2; at < 10; at++) {
            tim.epoch = tim.epoch << 8 | p[at];
        }
        tim.epoch += trip / 2;
        tim.at = now;
        tim.best = (uint16_t)trip;
    }
    if (tim.questions == 0) {
        hg_on_event(HG_GOT_TIME, 0);
    }
}
#endif

/* ---- Files ---- */

#if HG_FILES
enum { OFFER = 1, WANT = 2, CHUNK = 3, END = 4, OFFER_SIZE = 38, PLACE_SIZE = 6 };

static struct {
    struct hg_sha256 sha;
    uint8_t digest[32];
    uint32_t size;
    uint32_t offset;
    uint8_t id;
    uint8_t owed; /* WANT, END, 0 */
    uint8_t owed_id;
    uint8_t outcome;
    bool is_open;
    bool is_misplaced;
} fil;

static uint32_t get32(const uint8_t *at) {
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void answer_file(uint8_t kind, uint8_t id, uint8_t outcome) {
    fil.owed = kind;
    fil.owed_id = id;
    fil.outcome = outcome;
}

static void end_file(enum hg_outcome outcome) {
    fil.is_open = false;
    answer_file(END, fil.id, (uint8_t)outcome);
    hg_file_end(outcome);
}

static void finish_file(void) {
    hg_sha256_end(&fil.sha);
    end_file(memcmp(fil.sha.block, fil.digest, 32) ? HG_FILE_DAMAGED : HG_FILE_DONE);
}

static bool is_plain_name(const uint8_t *name, uint8_t size) {
    if (size == 0 || size > 64 || name[0] == '.') {
        return false;
    }
    while (size--) {
        uint8_t c = *name++;
        if (c < ' ' || c == 0x7F || (c < 0x80 && strchr("/\\:*?\"<>|", c))) {
            return false;
        }
    }
    return true;
}

/* Digest what is there already. */
static bool take_up(uint32_t offset) {
    uint8_t piece[32];
    hg_sha256_begin(&fil.sha);
    for (fil.offset = 0; fil.offset < offset;) {
        uint32_t left = offset - fil.offset;
        uint8_t size = (uint8_t)(left < sizeof piece ? left : sizeof piece);
        if (!hg_file_read(fil.offset, piece, size)) {
            return false;
        }
        hg_sha256_add(&fil.sha, piece, size);
        fil.offset += size;
    }
    return true;
}

static void on_offer(const uint8_t *p, uint8_t size) {
    fil.id = p[1];
    fil.size = get32(p + 2);
    memcpy(fil.digest, p + 6, 32);
    fil.is_open = fil.is_misplaced = false;
    if (!is_plain_name(p + OFFER_SIZE, (uint8_t)(size - OFFER_SIZE))) {
        answer_file(END, fil.id, HG_FILE_REFUSED);
        return;
    }
    int32_t offset = hg_file_begin(fil.size, fil.digest, (const char *)p + OFFER_SIZE, (uint8_t)(size - OFFER_SIZE));
    if (offset < 0) {
        answer_file(END, fil.id, (uint8_t)-offset);
    } else if ((uint32_t)offset > fil.size || !take_up((uint32_t)offset)) {
        end_file(HG_FILE_REFUSED);
    } else if (fil.offset == fil.size) {
        finish_file();
    } else {
        fil.is_open = true;
        answer_file(WANT, fil.id, 0);
    }
}

static void on_chunk(const uint8_t *p, uint8_t size) {
    const uint8_t *data = p + PLACE_SIZE;
    if (!fil.is_open || p[1] != fil.id) {
        answer_file(END, p[1], HG_FILE_ABANDONED);
        return;
    }
    size = (uint8_t)(size - PLACE_SIZE);
    if (get32(p + 2) != fil.offset || size > fil.size - fil.offset) {
        if (!fil.is_misplaced) { /* said once; what was on its way meanwhile is passed over */
            fil.is_misplaced = true;
            answer_file(WANT, fil.id, 0);
        }
        return;
    }
    fil.is_misplaced = false;
    if (!hg_file_write(fil.offset, data, size)) {
        end_file(HG_FILE_REFUSED);
        return;
    }
    hg_sha256_add(&fil.sha, data, size);
    fil.offset += size;
    if (fil.offset == fil.size) {
        finish_file();
    }
}

static void on_file(const uint8_t *p, uint8_t size) {
    if (p[0] == OFFER && size > OFFER_SIZE) {
        on_offer(p, size);
    } else if (p[0] == CHUNK && size > PLACE_SIZE) {
        on_chunk(p, size);
    } else if (p[0] == END && fil.is_open && size >= 2 && p[1] == fil.id) {
        fil.is_open = false;
        hg_file_end(HG_FILE_ABANDONED);
    }
}

static void tick_files(void) {
    if (!fil.owed || !is_free()) {
        return;
    }
    begin_packet();
    put(fil.owed);
    put(fil.owed_id);
    if (fil.owed == WANT) {
        put16((uint16_t)(fil.offset >> 16));
        put16((uint16_t)fil.offset);
    } else {
        put(fil.outcome);
    }
    fil.owed = 0;
    send_packet(CHANNEL_FILES);
}

/* SHA-256 as in FIPS 180-4. */

static const uint32_t SHA_K[64] HG_FLASH = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static const uint32_t SHA_BEGIN[8] HG_FLASH = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static uint32_t turn(uint32_t x, uint8_t by) {
    return x >> by | x << (32 - by);
}

static void sha_block(struct hg_sha256 *sha) {
    uint32_t w[16], s[8];
    for (uint8_t at = 0; at < 16; at++) {
        w[at] = get32(sha->block + 4 * at);
    }
    memcpy(s, sha->state, sizeof s);
    for (uint8_t t = 0; t < 64; t++) {
        uint8_t at = t & 15;
        if (t > 15) {
            uint32_t a = w[(t + 1) & 15], b = w[(t + 14) & 15];
            w[at] += (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[(t + 9) & 15] + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
        }
        uint32_t one = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6]))
            + HG_FLASH_LONG(SHA_K + t) + w[at];
        uint32_t two = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (uint8_t at = 0; at < 8; at++) {
        sha->state[at] += s[at];
    }
}

void hg_sha256_begin(struct hg_sha256 *sha) {
    sha->size = 0;
    for (uint8_t at = 0; at < 8; at++) {
        sha->state[at] = HG_FLASH_LONG(SHA_BEGIN + at);
    }
}

void hg_sha256_add(struct hg_sha256 *sha, const uint8_t *data, uint8_t size) {
    while (size--) {
        sha->block[sha->size++ & 63] = *data++;
        if (!(sha->size & 63)) {
            sha_block(sha);
        }
    }
}

void hg_sha256_end(struct hg_sha256 *sha) {
    uint32_t size = sha->size;
    uint8_t byte = 0x80;
    do {
        hg_sha256_add(sha, &byte, 1);
        byte = 0;
    } while ((sha->size & 63) != 56);
    for (uint8_t at = 0; at < 8; at++) { /* the size in bits; files have less than 2^29 bytes */
        byte = (uint8_t)(at < 4 ? 0 : size << 3 >> (56 - 8 * at));
        hg_sha256_add(sha, &byte, 1);
    }
    for (uint8_t at = 0; at < 32; at++) {
        sha->block[at] = (uint8_t)(sha->state[at >> 2] >> (24 - 8 * (at & 3)));
    }
}
#endif

/* ---- The link: what comes ---- */

static bool is_sound_hello(const uint8_t *p, uint8_t size) {
    if (size < 16 || p[0] < 1 || get16(p + 2) == 0 || p[7] < 1 || p[7] > 8 || get16(p + 8) < 48) {
        return false;
    }
    uint8_t uid = p[14];
    if (uid > 16 || size < 16 + uid) {
        return false;
    }
    return p[15 + uid] <= 16 && size >= 16 + uid + p[15 + uid];
}

static void draw_nonce(void) {
    lnk.nonce = (uint16_t)(lnk.nonce * 25173U + 13849U);
    if (lnk.nonce == 0) {
        lnk.nonce = 1;
    }
}

static void on_hello(const uint8_t *p, uint8_t size) {
    if (!is_sound_hello(p, size)) {
        return;
    }
    uint16_t mine = get16(p + 2), yours = get16(p + 4);
    if (mine == lnk.nonce) { /* an echo, or a coincidence */
        if (!lnk.is_open) {
            draw_nonce();
        }
        return;
    }
    if (p[1] & HELLO_USED && !lnk.peer && yours == lnk.nonce) { /* it means a session from before our reset */
        draw_nonce();
    }
    if (mine != lnk.peer || (lnk.is_open && yours != lnk.nonce)) { /* another session */
        lnk.peer = mine;
        lnk.expected = lnk.sequence = lnk.pending = 0;
        lnk.is_open = lnk.owes_ack = false;
        lnk.credit = 1;
        lose();
    }
    lnk.is_strong = HG_CRC32 && p[6] & CAN_CRC32;
    lnk.limit = (uint8_t)(get16(p + 8) < HG_PAYLOAD ? get16(p + 8) : HG_PAYLOAD);
    if (yours == lnk.nonce && !lnk.is_open) {
        lnk.is_open = true;
        lnk.tries = 0;
        lnk.due = hg_port_millis();
    }
    if (!(p[1] & HELLO_OPEN && yours == lnk.nonce)) {
        lnk.owes_hello = true;
    }
}

static void deliver(uint8_t channel, const uint8_t *p, uint8_t size) {
    if (channel == CHANNEL_SN) {
        on_packet(p, size);
    }
#if HG_TIME
    if (channel == CHANNEL_TIME && size) {
        on_time(p, size);
    }
#endif
#if HG_FILES
    if (channel == CHANNEL_FILES && size) {
        on_file(p, size);
    }
#endif
}

static void on_session_frame(const uint8_t *body, uint8_t size) {
    if (!lnk.is_open) {
        lnk.is_open = true;
        lnk.tries = 0;
    }
    lnk.credit = body[0] & 15;
    if (lnk.pending && (body[1] & 15) == ((lnk.sequence + 1) & 15)) {
        lnk.pending = 0;
        lnk.sequence = (lnk.sequence + 1) & 15;
    }
    uint8_t channel = body[0] >> 5;
    if (channel == CHANNEL_LINK) {
        return;
    }
    if (body[0] & RELIABLE) {
        lnk.owes_ack = true;
        if (body[1] >> 4 != lnk.expected) {
            return;
        }
        lnk.expected = (lnk.expected + 1) & 15;
    }
    deliver(channel, body + HEADER, (uint8_t)(size - HEADER));
}

static void on_frame(uint8_t *body, uint8_t size) {
    uint8_t check[4];
    size = decode_frame(body, size);
    if (size < HEADER + 2 || size < HEADER + check_size(body)) {
        return;
    }
    size = (uint8_t)(size - check_size(body));
    make_check(body, size, lnk.peer, lnk.nonce, check);
    if (memcmp(check, body + size, check_size(body))) {
        return;
    }
    if (is_hello(body)) {
        on_hello(body + HEADER, (uint8_t)(size - HEADER));
    } else if (lnk.peer) {
        on_session_frame(body, size);
    }
}

static void on_byte(uint8_t byte) {
    if (byte) {
        if (lnk.frame_size < FRAME) {
            lnk.frame[lnk.frame_size] = byte;
        }
        if (lnk.frame_size < TOO_LONG) {
            lnk.frame_size++;
        }
        return;
    }
    uint8_t size = lnk.frame_size;
    lnk.frame_size = 0;
    if (size && size <= FRAME) {
        on_frame(lnk.frame, size);
    }
}

/* ---- What the application calls ---- */

static uint8_t length_of(const char *text) {
    uint8_t size = 0;
    while (size < 255 && HG_FLASH_BYTE(text + size)) {
        size++;
    }
    return size;
}

static bool is_fitting(const struct hg_config *config) {
    uint8_t size = length_of(config->client_id);
    if (size == 0 || size > 16 || length_of(config->firmware) > 16) {
        return false;
    }
    for (uint8_t number = 0; number < config->topic_count; number++) {
        if (!(config->topics[number].flags & HG_PREDEFINED) && length_of(config->topics[number].name) > HG_PAYLOAD - 6) {
            return false;
        }
    }
    return !HG_WILL || !config->will_topic
        || (length_of(config->will_topic) <= HG_PAYLOAD - 3 && length_of(config->will_message) <= HG_PAYLOAD - 2);
}

bool hg_begin(const struct hg_config *config, uint16_t nonce) {
    memset(&lnk, 0, sizeof lnk);
    memset(&cli, 0, sizeof cli);
#if HG_TIME
    memset(&tim, 0, sizeof tim);
#endif
#if HG_FILES
    memset(&fil, 0, sizeof fil);
#endif
    cli.config = config;
    lnk.nonce = nonce ? nonce : 1;
    lnk.due = hg_port_millis();
    lnk.limit = HG_PAYLOAD;
    cli.last_id = nonce;
    be_connecting();
    cli.state = HG_OFF;
    cli.step = NOTHING;
    for (uint8_t number = 0; number < config->topic_count; number++) {
        struct hg_topic *topic = topic_at(number);
        if (topic->flags & HG_SHORT) {
            topic->id = (uint16_t)((uint16_t)HG_FLASH_BYTE(topic->name) << 8 | HG_FLASH_BYTE(topic->name + 1));
        }
    }
    return is_fitting(config);
}

void hg_poll(void) {
    int16_t byte;
    for (uint8_t left = 255; left && (byte = hg_port_read()) >= 0; left--) {
        on_byte((uint8_t)byte);
    }
    tick_link();
    if (lnk.owes_hello) {
        send_hello();
    }
#if HG_TIME
    tick_time();
#endif
    tick_client();
#if HG_FILES
    tick_files();
#endif
    if (lnk.owes_ack) {
        send_ack();
    }
}

void hg_connect(void) {
    if (cli.state == HG_OFF || cli.state >= HG_ASLEEP) {
        be_connecting();
    }
    cli.wants = 0;
}

bool hg_publish(uint8_t topic, const void *data, uint8_t size, uint8_t flags) {
    if (cli.step != NOTHING || size > HG_PAYLOAD - 7) {
        return false;
    }
    cli.step = PUBLISH;
    cli.topic = topic;
    cli.data = data;
    cli.size = size;
    cli.refusals = 0;
    cli.flags = flags & (QOS | HG_RETAIN);
    cli.message_id = (flags & QOS) == HG_QOS_1 || (flags & QOS) == HG_QOS_2 ? new_id() : 0;
    return true;
}

void hg_sleep(uint16_t seconds) {
    cli.sleep = seconds;
    cli.wants |= WANT_SLEEP;
}

void hg_wake(void) {
    if (cli.state == HG_ASLEEP) {
        cli.state = HG_AWAKE;
        cli.pings = 0;
        cli.wants |= WANT_WAKE;
    }
}

void hg_disconnect(void) {
    cli.wants |= WANT_BYE;
}

enum hg_state hg_state(void) {
    return (enum hg_state)cli.state;
}

bool hg_is_idle(void) {
#if HG_FILES
    if (fil.owed || fil.is_open) {
        return false;
    }
#endif
    return lnk.is_open && !lnk.pending && !lnk.owes_hello && !lnk.owes_ack && !lnk.frame_size && cli.owed == NOTHING
        && cli.request == NOTHING && !(cli.wants & WANT_WAKE) && next_request() == NOTHING;
}
