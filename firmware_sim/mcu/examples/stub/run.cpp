/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a sketch on standard input and output, as a board would on its UART.
 */
#include <Arduino.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

SerialStub Serial;

void SerialStub::begin(unsigned long) {}

int SerialStub::read() {
    struct pollfd look = {0, POLLIN, 0};
    uint8_t byte;
    if (poll(&look, 1, 0) <= 0) {
        return -1;
    }
    if (::read(0, &byte, 1) != 1) {
        exit(0);
    }
    return byte;
}

void SerialStub::write(uint8_t byte) {
    if (::write(1, &byte, 1) != 1) {
        exit(0);
    }
}

void SerialStub::println(const char *text) {
    while (*text) {
        write((uint8_t)*text++);
    }
    write('\r');
    write('\n');
}

unsigned long millis() {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (unsigned long)(time.tv_sec * 1000 + time.tv_nsec / 1000000);
}

void delay(unsigned long milliseconds) {
    usleep((useconds_t)(milliseconds * 1000));
}

void pinMode(uint8_t, uint8_t) {}
void digitalWrite(uint8_t, uint8_t) {}

int analogRead(uint8_t) {
    return rand() & 1023;
}

char *itoa(int value, char *text, int) {
    sprintf(text, "%d", value);
    return text;
}

int main() {
    srand((unsigned)time(NULL));
    setup();
    for (;;) {
        loop();
        usleep(200);
    }
}
