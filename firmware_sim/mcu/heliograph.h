/* SPDX-License-Identifier: Apache-2.0
 *
 * Heliograph's client for microcontrollers: MQTT-SN 1.2 on a framed serial wire, as docs/serial-protocol.md describes it.
 *
 * One client per device, no memory but its own static one, nothing that blocks but `hg_port_write`. All that is said goes out
 * from `hg_poll`; the other functions note what is wanted. A message of QoS 1 or 2 is sent until it is acknowledged, through
 * noise, cut wires and a gateway that restarts.
 *
 * C99. To be compiled as C; sketches in C++ include this header as it is.
 */
#ifndef HELIOGRAPH_H
#define HELIOGRAPH_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is compiled in. Each may be set on the command line: -DHG_FILES=1. */
#ifndef HG_PAYLOAD
#define HG_PAYLOAD 48 /* the largest MQTT-SN packet, 48 to 240: two buffers of this size */
#endif
#ifndef HG_BUFFER
#define HG_BUFFER 48 /* what the UART's ring holds, less 16: bytes that the gateway may send ahead */
#endif
#ifndef HG_RATE
#define HG_RATE 1152 /* the fastest rate the UART can do, in 100 bit/s */
#endif
#ifndef HG_WINDOW
#define HG_WINDOW 1 /* frames that the gateway may send ahead, 1 to 8; more need a larger HG_BUFFER */
#endif
#ifndef HG_CRC32
#define HG_CRC32 0 /* CRC-32 instead of CRC-16, for wires with more than one bad byte in 10,000 */
#endif
#ifndef HG_WILL
#define HG_WILL 1 /* a will */
#endif
#ifndef HG_QOS2
#define HG_QOS2 1 /* QoS 2, both ways */
#endif
#ifndef HG_LOG
#define HG_LOG 0 /* hg_log */
#endif
#ifndef HG_TIME
#define HG_TIME 0 /* hg_ask_time, hg_time */
#endif
#ifndef HG_FILES
#define HG_FILES 0 /* files from the gateway, as a new firmware */
#endif

#if HG_PAYLOAD < 48 || HG_PAYLOAD > 240
#error "HG_PAYLOAD is 48 to 240"
#endif
#if HG_WINDOW < 1 || HG_WINDOW > 8
#error "HG_WINDOW is 1 to 8"
#endif

/* Text that lies in flash where flash and RAM are told apart:
 *     static const char NAME[] HG_FLASH = "plant/1/temp"; */
#if defined(__AVR__)
#include <avr/pgmspace.h>
#define HG_FLASH PROGMEM
#define HG_FLASH_BYTE(at) pgm_read_byte(at)
#define HG_FLASH_LONG(at) pgm_read_dword(at)
#else
#define HG_FLASH
#define HG_FLASH_BYTE(at) (*(at))
#define HG_FLASH_LONG(at) (*(at))
#endif

/* Bits of a topic and of a message, where MQTT-SN has them in its flags. */
enum {
    HG_QOS_0 = 0x00,
    HG_QOS_1 = 0x20,
    HG_QOS_2 = 0x40,
    HG_QOS_NONE = 0x60, /* -1: without a connection; a short or predefined topic */
    HG_RETAIN = 0x10,   /* of a message */
    HG_SUBSCRIBE = 0x08, /* of a topic: messages of at most its QoS are wanted */
    HG_PREDEFINED = 0x01, /* of a topic: its id is known to the gateway beforehand */
    HG_SHORT = 0x02       /* of a topic: its name has two bytes and is the id */
};

/* A topic, in an array that lives as long as the client. `id` is the client's, but for HG_PREDEFINED. */
struct hg_topic {
    const char *name; /* HG_FLASH */
    uint8_t flags;
    uint16_t id;
};

/* Who the device is. All text is HG_FLASH and lives as long as the client. */
struct hg_config {
    const char *client_id; /* 1 to 16 bytes; the device's uid, too */
    const char *firmware;  /* its version, at most 16 bytes */
    struct hg_topic *topics;
    uint8_t topic_count;
    bool clean_session;   /* true: the broker forgets the session at its end, and messages for it */
    uint16_t keep_alive;  /* seconds */
    const char *will_topic; /* NULL: no will */
    const char *will_message;
    uint8_t will_flags; /* HG_QOS_1, HG_RETAIN... */
};

enum hg_state {
    HG_OFF,        /* nothing is wanted */
    HG_CONNECTING, /* until the gateway accepts */
    HG_ACTIVE,
    HG_ASLEEP, /* the broker keeps what comes */
    HG_AWAKE   /* collects what was kept, then sleeps on */
};

enum hg_event {
    HG_UP,        /* the gateway has accepted; value 0 */
    HG_REFUSED,   /* it has not, it is asked again; value: the return code of MQTT-SN */
    HG_DOWN,      /* the connection is lost, and is tried again */
    HG_PUBLISHED, /* the message is the broker's; its bytes are the application's again */
    HG_FAILED,    /* the message will not be taken; value: the return code */
    HG_SUBSCRIBED, /* value: the topic's number */
    HG_NOT_SUBSCRIBED, /* the gateway refuses; value: the topic's number */
    HG_SLEEPS,    /* the gateway knows that the device sleeps; the UART may be switched off when hg_is_idle */
    HG_COLLECTED, /* all that had waited has come */
    HG_GONE,      /* hg_disconnect is done */
    HG_GOT_TIME   /* hg_time is right */
};

/* Begin, or begin anew after a reset. `nonce` is best another one after each reset: a counter, noise of an ADC. False: a text
 * is too long for HG_PAYLOAD, or there is no client id. */
bool hg_begin(const struct hg_config *config, uint16_t nonce);

/* Take what has come and say what is to be said. To be called at least as often as the UART's ring fills: every 5 ms with
 * 64 bytes at 115,200 bit/s. */
void hg_poll(void);

/* Connect and subscribe, also to stay awake after having slept; again by itself whenever the connection is lost. */
void hg_connect(void);

/* Publish to the topic of that number. `flags`: the QoS, HG_RETAIN. False: the message before is still under way, or this one
 * is larger than HG_PAYLOAD - 7. `data` must stay as it is until HG_PUBLISHED or HG_FAILED. */
bool hg_publish(uint8_t topic, const void *data, uint8_t size, uint8_t flags);

/* Tell the gateway that the device will be silent for at most so many seconds; HG_SLEEPS follows. What is published while asleep
 * goes out at once, and the device sleeps on. After a lost connection it falls asleep again by itself. */
void hg_sleep(uint16_t seconds);

/* While asleep: collect what waits; HG_COLLECTED follows, and the device sleeps on. */
void hg_wake(void);

/* Say goodbye; HG_GONE follows. */
void hg_disconnect(void);

enum hg_state hg_state(void);

/* Whether all is said and answered: the device may stop its clock until it has something to say. */
bool hg_is_idle(void);

#if HG_LOG
/* Say a line to the gateway's log, at most HG_PAYLOAD bytes; it may be lost. False: no room now. */
bool hg_log(const char *text, uint8_t size);
#endif

#if HG_TIME
/* Ask for the time, four times; HG_GOT_TIME follows after the best answer is known. */
void hg_ask_time(void);

/* Milliseconds since 1970-01-01 UTC; 0: not known. To be called at least every 49 days. */
uint64_t hg_time(void);
#endif

/* ---- The port: what the platform gives. ---- */

/* The next byte of the UART, -1 if there is none. */
int16_t hg_port_read(void);

/* Write a byte; may wait until the UART takes it. */
void hg_port_write(uint8_t byte);

/* Milliseconds, from any start, running over after 2^32. */
uint32_t hg_port_millis(void);

/* ---- The application: called from within hg_poll. ---- */

/* A message for the topic of that number; `data` is valid until this returns. False: not now; the gateway repeats it after some
 * seconds (QoS 0 is lost). */
bool hg_on_message(uint8_t topic, const uint8_t *data, uint8_t size);

void hg_on_event(enum hg_event event, uint8_t value);

#if HG_FILES
enum hg_outcome { HG_FILE_DONE, HG_FILE_DAMAGED, HG_FILE_TOO_LARGE, HG_FILE_REFUSED, HG_FILE_ABANDONED };

/* A file is offered: returns how many bytes of this very file (size and digest) are there already, or minus an outcome.
 * Offered again after every cut. */
int32_t hg_file_begin(uint32_t size, const uint8_t digest[32], const char *name, uint8_t name_size);

/* Store, or read back what was stored. False: the file is refused, as for a wrong magic number. */
bool hg_file_write(uint32_t offset, const uint8_t *data, uint8_t size);
bool hg_file_read(uint32_t offset, uint8_t *data, uint8_t size);

/* It is over. HG_FILE_DONE: all is there, and the digest is right. Anything else: forget it, but ABANDONED: it may come again. */
void hg_file_end(enum hg_outcome outcome);

struct hg_sha256 {
    uint32_t state[8];
    uint32_t size;
    uint8_t block[64];
};

void hg_sha256_begin(struct hg_sha256 *sha);
void hg_sha256_add(struct hg_sha256 *sha, const uint8_t *data, uint8_t size);
void hg_sha256_end(struct hg_sha256 *sha); /* the digest is in `block` then, its first 32 bytes */
#endif

#ifdef __cplusplus
}
#endif

#endif
