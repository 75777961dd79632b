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

/* One command: its byte, a size byte, and so many bytes; returns how many were taken. */
static size_t step(const uint8_t *data, size_t size) {
    uint8_t length = (uint8_t)(data[1] % HG_PAYLOAD);
    if (length > size - 2) {
        length = (uint8_t)(size - 2);
    }
    const uint8_t *bytes = data + 2;
    switch (data[0] & 7) {
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
