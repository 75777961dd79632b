/* SPDX-License-Identifier: Apache-2.0
 *
 * The same firmware on a computer, in two ways:
 *
 *     host DEVICE         on a serial device, a pty for example; without one on standard input and output
 *     libhost.so          bytes and time come as arguments (firmware_sim/firmware/compiled.py), so a test turns the clock
 */
#define _DEFAULT_SOURCE 1
#include <stddef.h>

#include "firmware/app.h"
#include "firmware/image.h"

#ifdef HOST_LIBRARY

enum { ROOM = 8192 };

static uint32_t now;
static const uint8_t *coming;
static size_t coming_size;
static uint8_t going[ROOM];
static size_t going_size;
static bool led, is_reset;

int16_t hg_port_read(void) {
    if (coming_size == 0) {
        return -1;
    }
    coming_size--;
    return *coming++;
}

void hg_port_write(uint8_t byte) {
    if (going_size < ROOM) {
        going[going_size++] = byte;
    }
}

uint32_t hg_port_millis(void) {
    return now;
}

void platform_led(bool is_on) {
    led = is_on;
}

void platform_reset(void) {
    is_reset = true;
}

void host_begin(uint16_t boots, uint32_t millis);
bool host_poll(const uint8_t *data, size_t size, uint32_t millis);
size_t host_take(uint8_t *to, size_t room);
bool host_led(void);
void host_ask_time(void);
uint64_t host_time(void);
bool host_log(const char *text, size_t size);
void host_disconnect(void);
void host_connect(void);
bool host_shout(const char *text, size_t size);
bool host_is_idle(void);

void host_begin(uint16_t boots, uint32_t millis) {
    now = millis;
    going_size = 0;
    is_reset = false;
    app_begin(boots);
}

/* Bytes have come; true: the application asks for a reset, that is host_begin. */
bool host_poll(const uint8_t *data, size_t size, uint32_t millis) {
    now = millis;
    coming = data;
    coming_size = size;
    do {
        app_poll();
    } while (coming_size && !is_reset);
    return is_reset;
}

/* Take what goes out; returns its size. */
size_t host_take(uint8_t *to, size_t room) {
    size_t size = going_size < room ? going_size : room;
    for (size_t at = 0; at < size; at++) {
        to[at] = going[at];
    }
    going_size = 0;
    return size;
}

bool host_led(void) {
    return led;
}

void host_ask_time(void) {
    hg_ask_time();
}

uint64_t host_time(void) {
    return hg_time();
}

bool host_log(const char *text, size_t size) {
    return hg_log(text, (uint8_t)size);
}

void host_disconnect(void) {
    hg_disconnect();
}

void host_connect(void) {
    hg_connect();
}

/* A message of QoS -1. */
bool host_shout(const char *text, size_t size) {
    static uint8_t shouted[24];
    for (size_t at = 0; at < size && at < sizeof shouted; at++) {
        shouted[at] = (uint8_t)text[at];
    }
    return hg_publish(3, shouted, (uint8_t)size, HG_QOS_NONE);
}

bool host_is_idle(void) {
    return hg_is_idle();
}

#else

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int input = 0, output = 1;
static uint8_t ring[256], out[512];
static size_t ring_from, ring_to, out_size;
static uint16_t boots;

static void flush(void) {
    size_t sent = 0;
    while (sent < out_size) {
        ssize_t size = write(output, out + sent, out_size - sent);
        if (size < 0) {
            exit(0); /* the other end is gone */
        }
        sent += (size_t)size;
    }
    out_size = 0;
}

static void fill(void) {
    struct pollfd look = {input, POLLIN, 0};
    if (poll(&look, 1, 1) <= 0) {
        return;
    }
    ssize_t size = read(input, ring, sizeof ring);
    if (size <= 0) {
        exit(0);
    }
    ring_from = 0;
    ring_to = (size_t)size;
}

int16_t hg_port_read(void) {
    return ring_from == ring_to ? -1 : ring[ring_from++];
}

void hg_port_write(uint8_t byte) {
    out[out_size++] = byte;
    if (out_size == sizeof out) {
        flush();
    }
}

uint32_t hg_port_millis(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint32_t)(time.tv_sec * 1000 + time.tv_nsec / 1000000);
}

void platform_led(bool is_on) {
    fprintf(stderr, "led %s\n", is_on ? "on" : "off");
}

void platform_reset(void) {
    app_begin(++boots);
}

static void open_device(const char *path) {
    struct termios raw;
    input = output = open(path, O_RDWR | O_NOCTTY);
    if (input < 0) {
        perror(path);
        exit(1);
    }
    if (tcgetattr(input, &raw) == 0) {
        cfmakeraw(&raw);
        cfsetspeed(&raw, B115200);
        tcsetattr(input, TCSANOW, &raw);
    }
}

int main(int count, char **words) {
    if (count > 1) {
        open_device(words[1]);
    }
    boots = (uint16_t)(time(NULL) & 0x7FFF);
    app_begin(boots);
    for (;;) {
        if (ring_from == ring_to) {
            fill();
        }
        app_poll();
        flush();
    }
}

#endif
