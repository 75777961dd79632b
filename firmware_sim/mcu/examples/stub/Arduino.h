/* SPDX-License-Identifier: Apache-2.0
 *
 * As much of Arduino's core as the examples use, so that they are compiled without it. The functions behind it are in run.cpp.
 */
#ifndef ARDUINO_STUB_H
#define ARDUINO_STUB_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LOW, HIGH, OUTPUT, LED_BUILTIN = 13, A0, A1, A2 };

struct SerialStub {
    void begin(unsigned long baud);
    int read();
    void write(uint8_t byte);
    void println(const char *text);
};
extern SerialStub Serial;

unsigned long millis();
void delay(unsigned long milliseconds);
void pinMode(uint8_t pin, uint8_t mode);
void digitalWrite(uint8_t pin, uint8_t value);
int analogRead(uint8_t pin);
char *itoa(int value, char *text, int radix);
void setup();
void loop();

#endif
