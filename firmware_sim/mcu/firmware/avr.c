/* SPDX-License-Identifier: Apache-2.0
 *
 * ATmega328P at 16 MHz (Arduino Uno): USART 0, timer 1 for milliseconds (the one that QEMU has), the LED at PB5.
 */
#include <avr/interrupt.h>
#include <avr/io.h>

#include "app.h"

enum { RING = 64 }; /* HG_BUFFER is 16 less */

static volatile uint32_t millis;
static volatile uint8_t ring[RING], ring_in;
static volatile uint8_t ring_out;
static uint16_t boots KEPT;
static uint16_t boots_mark KEPT;

ISR(TIMER1_COMPA_vect) {
    millis++;
}

ISR(USART_RX_vect) {
    uint8_t byte = UDR0, next = (uint8_t)((ring_in + 1) % RING);
    if (next != ring_out) {
        ring[ring_in] = byte;
        ring_in = next;
    }
}

int16_t hg_port_read(void) {
    if (ring_in == ring_out) {
        return -1;
    }
    uint8_t byte = ring[ring_out];
    ring_out = (uint8_t)((ring_out + 1) % RING);
    return byte;
}

void hg_port_write(uint8_t byte) {
    while (!(UCSR0A & 1 << UDRE0)) {
    }
    UDR0 = byte;
}

uint32_t hg_port_millis(void) {
    cli();
    uint32_t now = millis;
    sei();
    return now;
}

void platform_led(bool is_on) {
    if (is_on) {
        PORTB |= 1 << PB5;
    } else {
        PORTB &= (uint8_t)~(1 << PB5);
    }
}

void platform_reset(void) {
    while (!(UCSR0A & 1 << UDRE0)) { /* what was said goes out */
    }
    cli();
    __asm__ volatile("jmp 0");
}

/* Paint what the stack has never touched: a test looks how much that is. Before main, when there is no stack yet. */
__attribute__((naked, used, section(".init3"))) static void paint(void) {
    __asm__ volatile("ldi r30, lo8(_end)\n\t"
                     "ldi r31, hi8(_end)\n\t"
                     "ldi r24, 0xA5\n\t"
                     "ldi r25, hi8(0x0900)\n\t"
                     "1: st Z+, r24\n\t"
                     "cpi r30, lo8(0x0900)\n\t"
                     "cpc r31, r25\n\t"
                     "brne 1b");
}

int main(void) {
    if (boots_mark != 0xB007) {
        boots_mark = 0xB007;
        boots = 0;
    }
    DDRB = 1 << PB5;
    UCSR0A = 1 << U2X0;
    UBRR0 = 16; /* 115,200 bit/s */
    UCSR0B = 1 << RXCIE0 | 1 << RXEN0 | 1 << TXEN0;
    OCR1A = 249; /* 16 MHz / 64 / 250: 1 ms */
    TCCR1B = 1 << WGM12 | 1 << CS11 | 1 << CS10;
    TIMSK1 = 1 << OCIE1A;
    sei();
    app_begin(++boots);
    for (;;) {
        app_poll(); /* no sleep_mode() here: in QEMU 7.2 the instruction is never left again */
    }
}
