/* SPDX-License-Identifier: Apache-2.0
 *
 * A reading of A0 every ten seconds with QoS 1, and an LED that obeys "plant/uno/led".
 *
 * Put heliograph.h and heliograph.c beside this sketch. Serial belongs to the client: print nothing to it.
 */
#include "heliograph.h"

static const char ID[] HG_FLASH = "uno";
static const char FIRMWARE[] HG_FLASH = "1.0";
static const char READING[] HG_FLASH = "plant/uno/reading";
static const char LED[] HG_FLASH = "plant/uno/led";
static const char STATE[] HG_FLASH = "plant/uno/state";
static const char GONE[] HG_FLASH = "gone";

static struct hg_topic topics[] = {
    {READING, 0, 0},
    {LED, HG_SUBSCRIBE | HG_QOS_1, 0},
};

static const struct hg_config config = {
    ID, FIRMWARE, topics, 2, false, /* the broker keeps what comes while we are away */
    60, STATE, GONE, HG_QOS_1,
};

static char text[8]; /* stays as it is until HG_PUBLISHED */
static bool isBusy;
static unsigned long due;

/* ---- The port ---- */

int16_t hg_port_read(void) {
    return (int16_t)Serial.read();
}

void hg_port_write(uint8_t byte) {
    Serial.write(byte);
}

uint32_t hg_port_millis(void) {
    return millis();
}

/* ---- What happens ---- */

bool hg_on_message(uint8_t topic, const uint8_t *data, uint8_t size) {
    (void)topic; /* there is one that we have subscribed to */
    digitalWrite(LED_BUILTIN, size > 0 && data[0] == '1' ? HIGH : LOW);
    return true;
}

void hg_on_event(enum hg_event event, uint8_t value) {
    (void)value;
    if (event == HG_PUBLISHED || event == HG_FAILED) {
        isBusy = false;
    }
}

void setup() {
    pinMode(LED_BUILTIN, OUTPUT);
    Serial.begin(115200);
    hg_begin(&config, (uint16_t)(analogRead(A1) * 251 + analogRead(A2) + 1)); /* an open pin is noise */
    hg_connect();
}

void loop() {
    hg_poll();
    if (isBusy || hg_state() != HG_ACTIVE || (long)(millis() - due) < 0) {
        return;
    }
    due = millis() + 10000;
    itoa(analogRead(A0), text, 10);
    isBusy = hg_publish(0, text, (uint8_t)strlen(text), HG_QOS_1);
}
