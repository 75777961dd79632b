/* SPDX-License-Identifier: Apache-2.0
 *
 * A device as there are many: publishes a reading now and then, obeys commands, sleeps if told to, and takes a new image.
 *
 *     plant/NAME/reading   "boots.number value", QoS 1; the value comes from a seeded pattern in place of an ADC
 *     plant/NAME/said      "up BOOTS", then an answer to each command but led; "gone" is the will
 *     plant/NAME/do        commands: every MS, led 0, led 1, say0 TEXT to say2 TEXT, shout TEXT, sleep SECONDS, stay, reset
 *     plant/NAME/update    how far the image is: "0" to "90", then "done", "damaged", "refused" (see image.c)
 *     hg                   what is shouted: QoS -1
 */
#include "app.h"

#include <string.h>

#include "image.h"

#ifndef NAME
#define NAME "host"
#endif
#ifndef FIRMWARE
#define FIRMWARE "1.0"
#endif

static const char CLIENT_ID[] HG_FLASH = NAME;
static const char VERSION[] HG_FLASH = FIRMWARE;
static const char READING_NAME[] HG_FLASH = "plant/" NAME "/reading";
static const char SAID_NAME[] HG_FLASH = "plant/" NAME "/said";
static const char DO_NAME[] HG_FLASH = "plant/" NAME "/do";
static const char SHOUT_NAME[] HG_FLASH = "hg";
static const char GONE[] HG_FLASH = "gone";
#if HG_FILES
static const char UPDATE_NAME[] HG_FLASH = "plant/" NAME "/update";
#endif

enum { READING, SAID, DO, SHOUT, UPDATE };

static struct hg_topic topics[] = {
    {READING_NAME, 0, 0},
    {SAID_NAME, 0, 0},
    {DO_NAME, HG_SUBSCRIBE | HG_QOS_2, 0},
    {SHOUT_NAME, HG_SHORT, 0},
#if HG_FILES
    {UPDATE_NAME, 0, 0},
#endif
};

static const struct hg_config CONFIG = {
    .client_id = CLIENT_ID,
    .firmware = VERSION,
    .topics = topics,
    .topic_count = sizeof topics / sizeof *topics,
    .keep_alive = 60,
    .will_topic = SAID_NAME,
    .will_message = GONE,
    .will_flags = HG_QOS_1,
};

enum { TEXT = 24, NONE = 0xFF };

static struct {
    uint32_t due; /* the next reading */
    uint16_t every;
    uint16_t boots;
    uint16_t number;
    uint16_t noise; /* the pattern's */
    uint16_t sleep; /* seconds between two readings; 0: it stays awake */
    uint8_t said_to; /* topic of what is to be said; NONE: nothing */
    uint8_t said_flags;
    uint8_t said_size;
    uint8_t busy; /* the topic whose message is under way; NONE */
    bool is_news; /* that it is up is to be said */
    bool is_read; /* a reading waits to be sent */
    bool wants_reset;
    bool wants_waking;
    char said[TEXT];
    char text[TEXT]; /* the reading, the progress */
} app;

static char *put_number(char *to, uint16_t value) {
    char digits[5];
    uint8_t size = 0;
    do {
        digits[size++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (size) {
        *to++ = digits[--size];
    }
    return to;
}

static uint16_t number_in(const char *text, uint8_t size) {
    uint16_t value = 0;
    while (size-- && *text >= '0' && *text <= '9') {
        value = (uint16_t)(value * 10U + (uint16_t)(*text++ - '0'));
    }
    return value;
}

static void say(uint8_t to, const char *text, uint8_t size, uint8_t flags) {
    app.said_size = size < TEXT ? size : TEXT;
    memcpy(app.said, text, app.said_size);
    app.said_to = to;
    app.said_flags = flags;
}

/* ---- Readings ---- */

static uint16_t sample(void) {
    app.noise ^= (uint16_t)(app.noise << 7);
    app.noise ^= app.noise >> 9;
    app.noise ^= (uint16_t)(app.noise << 8);
    return 200 + (app.noise & 31);
}

static void publish(uint8_t topic, const char *data, uint8_t size, uint8_t flags) {
    if (hg_publish(topic, data, size, flags)) {
        app.busy = topic;
    }
}

static void publish_reading(void) {
    char *end = put_number(app.text, app.boots);
    *end++ = '.';
    end = put_number(end, ++app.number);
    *end++ = ' ';
    end = put_number(end, sample());
    app.is_read = false;
    app.wants_waking = true;
    publish(READING, app.text, (uint8_t)(end - app.text), HG_QOS_1);
}

/* What waits goes out, one after the other. */
static void publish_next(void) {
    if (app.busy != NONE) {
        return;
    }
    if (app.said_to == NONE && app.is_news) {
        char text[8] = {'u', 'p', ' '};
        app.is_news = false;
        say(SAID, text, (uint8_t)(put_number(text + 3, app.boots) - text), HG_QOS_1);
    }
    if (app.said_to != NONE) {
        publish(app.said_to, app.said, app.said_size, app.said_flags);
        return;
    }
#if HG_FILES
    uint8_t size = image_progress(app.text);
    if (size) {
        publish(UPDATE, app.text, size, HG_QOS_1);
        return;
    }
#endif
    if (app.wants_reset) {
        platform_reset();
    } else if (app.is_read) {
        publish_reading();
    }
}

static void take_reading(void) {
    if ((int32_t)(hg_port_millis() - app.due) < 0) {
        return;
    }
    app.due = hg_port_millis() + (app.sleep ? (uint32_t)app.sleep * 1000 : app.every);
    app.is_read = hg_state() != HG_CONNECTING; /* what is read meanwhile is not kept */
}

/* Sleep when all is done; collect after each reading. */
static void rest(void) {
    if (app.sleep == 0 || app.busy != NONE || app.said_to != NONE || app.is_read) {
        return;
    }
    if (hg_state() == HG_ACTIVE) {
        app.wants_waking = false;
        hg_sleep((uint16_t)(app.sleep * 3));
    } else if (hg_state() == HG_ASLEEP && app.wants_waking) {
        app.wants_waking = false;
        hg_wake();
    }
}

/* ---- Commands ---- */

enum command { SAY0, SAY1, SAY2, SAY3, EVERY, LED, SLEEP, STAY, RESET, UNKNOWN, LONGEST = 7 };

static const char COMMANDS[UNKNOWN][LONGEST] HG_FLASH = {
    "say0 ", "say1 ", "say2 ", "shout ", "every ", "led ", "sleep ", "stay", "reset",
};

/* How many bytes of the text the command's word is; 0: it is another. */
static uint8_t word_size(const char *word, const char *text, uint8_t size) {
    uint8_t at = 0;
    while (at < LONGEST && HG_FLASH_BYTE(word + at)) {
        if (at == size || (char)HG_FLASH_BYTE(word + at) != text[at]) {
            return 0;
        }
        at++;
    }
    return at;
}

static void obey(const char *text, uint8_t size) {
    uint8_t command = 0, word = 0;
    while (command < UNKNOWN && !(word = word_size(COMMANDS[command], text, size))) {
        command++;
    }
    uint16_t number = number_in(text + word, (uint8_t)(size - word));
    if (command <= SAY3) { /* its number is the QoS, 3 stands for -1 */
        say(command == SAY3 ? SHOUT : SAID, text + word, (uint8_t)(size - word), (uint8_t)(command << 5));
        return;
    }
    switch ((enum command)command) {
    case EVERY:
        app.every = number;
        app.due = hg_port_millis();
        break;
    case LED: platform_led(number != 0); return;
    case SLEEP:
        app.sleep = number;
        app.due = hg_port_millis() + (uint32_t)number * 1000;
        break;
    case STAY:
        app.sleep = 0;
        hg_connect();
        break;
    case RESET: app.wants_reset = true; break;
    default: text = "what?"; size = 5; break;
    }
    say(SAID, text, size, HG_QOS_1);
}

bool hg_on_message(uint8_t topic, const uint8_t *data, uint8_t size) {
    if (topic == DO && app.said_to != NONE) {
        return false; /* what is said before is not out yet */
    }
    if (topic == DO) {
        obey((const char *)data, size);
    }
    return true;
}

void hg_on_event(enum hg_event event, uint8_t value) {
    (void)value;
    if (event == HG_PUBLISHED || event == HG_FAILED) {
        if (app.busy == app.said_to) {
            app.said_to = NONE;
        }
        app.busy = NONE;
    } else if (event == HG_UP) {
#if HG_FILES
        image_works();
#endif
        app.is_news = true;
    }
}

/* ---- Beginning, and going on ---- */

void app_begin(uint16_t boots) {
    memset(&app, 0, sizeof app);
    app.boots = boots;
    app.every = 1000;
    app.noise = 0xBEEF;
    app.said_to = app.busy = NONE;
    app.due = hg_port_millis();
    hg_begin(&CONFIG, (uint16_t)(boots * 40503U));
    hg_connect();
}

void app_poll(void) {
    hg_poll();
    take_reading();
    publish_next();
    rest();
}
