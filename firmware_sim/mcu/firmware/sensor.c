/* SPDX-License-Identifier: Apache-2.0
 *
 * A device of a simulated fleet. Who it is, how often it measures and whether it sleeps meanwhile, stands in its flash
 * (identity.h).
 *
 *     TOPIC           {"seq":17,"temperature":21.4}; the value comes from a pattern in place of an ADC
 *     TOPIC/command   whatever comes is taken, and toggles the LED
 *
 * `seq` counts what was measured, and goes on after a reset, so whoever listens knows of every reading. Those that cannot go at
 * once wait in RAM; of more than ROOM the oldest is dropped.
 */
#include "app.h"

#include <string.h>

#include "identity.h"
#include "image.h"

enum { ROOM = 16, LONGEST = 48, NEW = 0x5EA5 };
enum { READING, COMMAND };

static struct hg_topic topics[] = {
    {IDENTITY.topic, 0, 0},
    {IDENTITY.command, HG_SUBSCRIBE | HG_QOS_1, 0},
};

static struct hg_config config;

/* The next number; a reset keeps it. */
static uint32_t number KEPT;
static uint16_t number_mark KEPT;

struct reading {
    uint32_t number;
    uint16_t tenths; /* of a degree */
};

static struct {
    uint32_t due; /* the next reading */
    uint32_t every;
    uint16_t noise; /* the pattern's */
    uint16_t sleep; /* seconds; 0: it stays awake */
    uint8_t first;  /* the oldest that waits, and how many there are */
    uint8_t waiting;
    bool is_busy; /* one is under way, in `text` */
    bool wants_waking; /* a reading is sent: look what has come meanwhile */
    bool is_lit;
    char text[LONGEST];
    struct reading readings[ROOM];
} app;

static uint32_t number_at(const char *field, uint8_t size) {
    uint32_t value = 0;
    while (size--) {
        value = value << 8 | (uint8_t)HG_FLASH_BYTE(field + size);
    }
    return value;
}

static char *put_text(char *to, const char *text) {
    char c;
    while ((c = (char)HG_FLASH_BYTE(text++)) != 0) {
        *to++ = c;
    }
    return to;
}

static char *put_number(char *to, uint32_t value) {
    char digits[10];
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

/* ---- Readings ---- */

static uint16_t sample(void) {
    app.noise ^= (uint16_t)(app.noise << 7);
    app.noise ^= app.noise >> 9;
    app.noise ^= (uint16_t)(app.noise << 8);
    return 200 + (app.noise & 31);
}

static void keep(uint16_t tenths) {
    if (app.waiting == ROOM) {
        app.first = (uint8_t)((app.first + 1) % ROOM);
        app.waiting--;
    }
    struct reading *last = &app.readings[(app.first + app.waiting++) % ROOM];
    last->number = number++;
    last->tenths = tenths;
}

static void take_reading(void) {
    uint32_t late = hg_port_millis() - app.due;
    if ((int32_t)late < 0) {
        return;
    }
    app.due += late < app.every ? app.every : late + app.every; /* what was missed is not made up for */
    keep(sample());
}

static const char BEFORE_NUMBER[] HG_FLASH = "{\"seq\":";
static const char BEFORE_VALUE[] HG_FLASH = ",\"temperature\":";

static uint8_t written(const struct reading *reading) {
    char *end = put_text(app.text, BEFORE_NUMBER);
    end = put_number(end, reading->number);
    end = put_text(end, BEFORE_VALUE);
    end = put_number(end, reading->tenths / 10);
    *end++ = '.';
    end = put_number(end, reading->tenths % 10);
    *end++ = '}';
    return (uint8_t)(end - app.text);
}

static void publish_next(void) {
    if (app.is_busy || !app.waiting || hg_state() < HG_ACTIVE) {
        return;
    }
    uint8_t size = written(&app.readings[app.first]);
    app.first = (uint8_t)((app.first + 1) % ROOM);
    app.waiting--;
    app.is_busy = true;
    app.wants_waking = true;
    if (!hg_publish(READING, app.text, size, (uint8_t)(HG_FLASH_BYTE(&IDENTITY.qos) << 5))) {
        app.is_busy = false;
    }
}

/* Sleep when all is said; collect after each reading. */
static void rest(void) {
    if (!app.sleep || app.is_busy || app.waiting) {
        return;
    }
    if (hg_state() == HG_ACTIVE) {
        app.wants_waking = false;
        hg_sleep(app.sleep);
    } else if (hg_state() == HG_ASLEEP && app.wants_waking) {
        app.wants_waking = false;
        hg_wake();
    }
}

/* ---- What comes ---- */

bool hg_on_message(uint8_t topic, const uint8_t *data, uint8_t size) {
    (void)data, (void)size;
    if (topic == COMMAND) {
        app.is_lit = !app.is_lit;
        platform_led(app.is_lit);
    }
    return true;
}

void hg_on_event(enum hg_event event, uint8_t value) {
    (void)value;
    if (event == HG_PUBLISHED || event == HG_FAILED) {
        app.is_busy = false;
    }
#if HG_FILES
    if (event == HG_UP) {
        image_works();
    }
#endif
}

/* ---- Beginning, and going on ---- */

static void configure(void) {
    static const char VERSION[] HG_FLASH = "1.0";
    config.client_id = IDENTITY.name;
    config.firmware = VERSION;
    config.topics = topics;
    config.topic_count = HG_FLASH_BYTE(&IDENTITY.listens) ? 2 : 1;
    config.clean_session = HG_FLASH_BYTE(&IDENTITY.is_clean) != 0;
    config.keep_alive = (uint16_t)number_at(IDENTITY.keep_alive, sizeof IDENTITY.keep_alive);
}

void app_begin(uint16_t boots) {
    uint16_t nonce = (uint16_t)(number_at(IDENTITY.nonce, sizeof IDENTITY.nonce) + boots * 40503U);
    if (number_mark != NEW) {
        number_mark = NEW;
        number = 0;
    }
    memset(&app, 0, sizeof app);
    app.noise = nonce | 1;
    app.every = number_at(IDENTITY.every, sizeof IDENTITY.every);
    app.sleep = (uint16_t)number_at(IDENTITY.sleep, sizeof IDENTITY.sleep);
    app.due = hg_port_millis() + app.every;
    configure();
    hg_begin(&config, nonce);
    hg_connect();
}

void app_poll(void) {
    hg_poll();
    take_reading();
    publish_next();
    rest();
}
