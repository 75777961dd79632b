/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes from a stranger, with a clock that he turns: nothing is read or written beside its place, and the client goes on.
 *
 * The input is a row of commands; see `step`. Frames can be sealed with the right check, or noise could never get behind it.
 * With libFuzzer (clang), or with a plain loop of seeded noise: fuzz SECONDS [SEED].
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The client itself: its nonces are known here. */
#include "heliograph.c"

#include "firmware/app.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t now;
static uint8_t coming[600];
static size_t coming_size, coming_at, written;

int16_t hg_port_read(void) {
    return coming_at == coming_size ? -1 : coming[coming_at++];
}

void hg_port_write(uint8_t byte) {
    (void)byte;
    written++;
}

uint32_t hg_port_millis(void) {
    return now;
}

void platform_led(bool is_on) {
    (void)is_on;
}

void platform_reset(void) {
    app_begin((uint16_t)now);
}

static void run(void) {
    do {
        size_t before = written;
        app_poll();
        if (written - before > 2000) {
            abort(); /* it says too much at once */
        }
    } while (coming_at < coming_size);
    coming_size = coming_at = 0;
}

static void add(uint8_t byte) {
    coming[coming_size++] = byte;
}

/* Seal a body as the gateway would, and let it come. */
static void come_sealed(uint8_t *body, uint8_t size) {
    make_check(body, size, lnk.peer, lnk.nonce, body + size);
    size = (uint8_t)(size + check_size(body));
    add(0);
    for (uint8_t at = 0;;) {
        uint8_t start = at;
        while (at < size && body[at] && at - start < 254) {
            at++;
        }
        add((uint8_t)(at - start + 1));
        for (uint8_t from = start; from < at; from++) {
            add(body[from]);
        }
        if (at == size) {
            break;
        }
        if (at - start < 254) {
            at++;
        }
    }
    add(0);
}

static void come_hello(uint8_t flags, uint8_t mine, bool is_for_us) {
    uint8_t body[32] = {0, KIND_HELLO, 1, flags, 0x77, mine, 0, 0, 0x0F, 8, 4, 0, 0, 0, 0, 0, 1, 'g', 1, '1'};
    if (is_for_us) {
        body[6] = (uint8_t)(lnk.nonce >> 8);
        body[7] = (uint8_t)lnk.nonce;
    }
    come_sealed(body, 20);
}

/* The next bytes as a message of the session: of MQTT-SN with its length right, or any. */
static void come_message(const uint8_t *data, uint8_t size, uint8_t channel, bool is_packet) {
    uint8_t body[HG_PAYLOAD + 16];
    uint8_t from = HEADER;
    body[0] = (uint8_t)(channel << 5 | RELIABLE | 8);
    body[1] = (uint8_t)(lnk.expected << 4 | ((lnk.sequence + 1) & 15));
    if (is_packet) {
        body[from++] = (uint8_t)(size + 1);
    }
    memcpy(body + from, data, size);
    come_sealed(body, (uint8_t)(from + size));
}

/* The answer that the client waits for, with a return code. */
static void come_answer(uint8_t code) {
    uint8_t packet[8] = {0}, size = 0, id[2] = {(uint8_t)(cli.request_id >> 8), (uint8_t)cli.request_id};
    packet[size++] = cli.request == DISCONNECT || cli.request == NOTHING ? cli.request : (uint8_t)(cli.request + 1);
    switch (cli.request) {
    case CONNECT: packet[size++] = code; break;
    case SUBSCRIBE: size++; /* flags; the rest as in REGACK */ /* fall through */
    case REGISTER: case PUBLISH:
        if (cli.request == PUBLISH) {
            id[0] = (uint8_t)(cli.message_id >> 8);
            id[1] = (uint8_t)cli.message_id;
        }
        if (cli.request == PUBLISH && (cli.flags & QOS) == HG_QOS_2 && code == 0) {
            packet[0] = PUBREC;
        } else {
            packet[size++] = 0;
            packet[size++] = (uint8_t)(1 + cli.request_topic);
        }
        packet[size++] = id[0];
        packet[size++] = id[1];
        if (packet[0] != PUBREC) {
            packet[size++] = code;
        }
        break;
    case PUBREL:
        packet[0] = PUBCOMP;
        packet[size++] = (uint8_t)(cli.message_id >> 8);
        packet[size++] = (uint8_t)cli.message_id;
        break;
    default:
        if (cli.state == HG_AWAKE) {
            packet[0] = PINGRESP;
        }
        break;
    }
    come_message(packet, size, CHANNEL_SN, true);
}

/* A message for the application: one of its commands, and the bytes as its argument. */
static void come_command(uint8_t which, const uint8_t *bytes, uint8_t size) {
    static const char *const COMMANDS[] = {"say1 a", "say2 b", "sleep 2", "stay", "every 5", "reset", "led 1", ""};
    uint8_t packet[HG_PAYLOAD] = {PUBLISH, (uint8_t)(which & 0xE0), (uint8_t)(cli.config->topics[2].id >> 8),
                                  (uint8_t)cli.config->topics[2].id, 0, (uint8_t)(which >> 3)};
    const char *command = COMMANDS[which & 7];
    uint8_t at = 6;
    while (*command) {
        packet[at++] = (uint8_t)*command++;
    }
    for (; size && at < HG_PAYLOAD - 1; size--) {
        packet[at++] = *bytes++;
    }
    come_message(packet, at, CHANNEL_SN, true);
}

static void come_offer(uint8_t size) {
    uint8_t offer[OFFER_SIZE + 1] = {OFFER, size & 3, 0, 0, 0, size};
    offer[OFFER_SIZE] = 'x';
    come_message(offer, sizeof offer, CHANNEL_FILES, false);
}

/* The next chunk of the file; its data may be another. */
static void come_chunk(const uint8_t *bytes, uint8_t size, bool is_right) {
    uint8_t chunk[PLACE_SIZE + 20] = {CHUNK, fil.id, 0, 0, (uint8_t)(fil.offset >> 8), (uint8_t)fil.offset};
    for (uint8_t at = 0; at < size; at++) {
        chunk[PLACE_SIZE + at] = is_right && fil.offset + at < 4 ? (uint8_t)"HGFW"[fil.offset + at] : bytes[at];
    }
    come_message(chunk, (uint8_t)(PLACE_SIZE + size), CHANNEL_FILES, false);
}

static void come_time(void) {
    uint8_t tell[10] = {2, tim.token, 0, 0, 1, 0xB8, 0xDA, 0xC5, 0xB4, 0};
    come_message(tell, sizeof tell, CHANNEL_TIME, false);
}

static void come_name(void) {
    static const uint8_t NAMED[] = {REGISTER, 0, 9, 0, 9, 'p', 'l', 'a', 'n', 't', '/', 'h', 'o', 's', 't', '/', 'd', 'o'};
    come_message(NAMED, sizeof NAMED, CHANNEL_SN, true);
}

/* What the application and the clock do. */
static void do_something(uint8_t what) {
    switch (what & 7) {
    case 0: hg_ask_time(); break;
    case 1: hg_log("line", 4); break;
    case 2: hg_time(); break;
    case 3: hg_disconnect(); break;
    case 4: come_time(); break;
    case 5: come_name(); break;
    case 6: hg_connect(); break;
    default: now += 10000; break;
    }
}

/* One command: its byte, a size byte, and so many bytes; returns how many were taken. */
static size_t step(const uint8_t *data, size_t size) {
    uint8_t length = (uint8_t)(data[1] % HG_PAYLOAD);
    if (length > size - 2) {
        length = (uint8_t)(size - 2);
    }
    const uint8_t *bytes = data + 2;
    switch (data[0] & 15) {
    case 8: case 9: case 10: come_answer(0); return 2;
    case 11: come_answer(data[1] & 3); return 2;
    case 12: come_command(data[1], bytes, length > 4 ? 4 : length); return 2U + (length > 4 ? 4 : length);
    case 13: do_something(data[1]); return 2;
    case 14: come_offer(data[1]); return 2;
    case 15: come_chunk(bytes, length > 20 ? 20 : length, data[1] & 1); return 2U + (length > 20 ? 20 : length);
    case 0: now += data[1]; return 2;
    case 1: now += data[1] * 256U; return 2;
    case 2: come_hello(1, data[1], true); return 2;
    case 3: come_hello(data[1] & 1, (uint8_t)(data[1] >> 4), data[1] & 2); return 2;
    case 4:
        for (uint8_t at = 0; at < length; at++) {
            add(bytes[at]);
        }
        break;
    case 5: come_message(bytes, length, CHANNEL_SN, true); break;
    case 6: come_message(bytes, length, (uint8_t)(data[0] >> 5), false); break;
    default: come_message(bytes, length, CHANNEL_FILES, false); break;
    }
    return 2U + length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    now = 0;
    coming_size = coming_at = 0;
    app_begin(1);
    run();
    come_hello(1, 1, true);
    run();
    while (size >= 2) {
        size_t taken = step(data, size);
        data += taken;
        size -= taken;
        run();
    }
    return 0;
}

#ifdef PLAIN_LOOP
int main(int count, char **words) {
    time_t end = time(NULL) + (count > 1 ? atoi(words[1]) : 60);
    unsigned seed = count > 2 ? (unsigned)atoi(words[2]) : 1;
    uint8_t data[400];
    unsigned long rounds = 0;
    srand(seed);
    for (; time(NULL) < end; rounds++) {
        size_t size = (size_t)rand() % sizeof data;
        for (size_t at = 0; at < size; at++) {
            data[at] = (uint8_t)(rand() % (rand() & 1 ? 256 : 32));
        }
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%lu inputs, seed %u: nothing happened beside its place\n", rounds, seed);
    return 0;
}
#endif
