/* SPDX-License-Identifier: Apache-2.0
 *
 * LM3S6965 (Cortex-M3), as QEMU has it in lm3s6965evb, clocked with 12.5 MHz: UART 0, SysTick for milliseconds.
 */
#include <string.h>

#include "app.h"
#include "image.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART_DATA REGISTER(0x4000C000)
#define UART_FLAGS REGISTER(0x4000C018)
#define UART_BAUD_WHOLE REGISTER(0x4000C024)
#define UART_BAUD_PART REGISTER(0x4000C028)
#define UART_LINE REGISTER(0x4000C02C)
#define UART_CONTROL REGISTER(0x4000C030)
#define UART_INTERRUPTS REGISTER(0x4000C038)
#define UART_CLEAR REGISTER(0x4000C044)
#define CLOCK_UART REGISTER(0x400FE104)
#define CLOCK_GPIO REGISTER(0x400FE108)
#define PORT_A_FUNCTION REGISTER(0x40004420)
#define PORT_A_DIGITAL REGISTER(0x4000451C)
#define PORT_F_DIRECTION REGISTER(0x40025400)
#define PORT_F_DIGITAL REGISTER(0x4002551C)
#define PORT_F_0 REGISTER(0x40025004)
#define SYSTICK_CONTROL REGISTER(0xE000E010)
#define SYSTICK_RELOAD REGISTER(0xE000E014)
#define SYSTICK_VALUE REGISTER(0xE000E018)
#define ENABLE_0 REGISTER(0xE000E100)
#define VECTORS_AT REGISTER(0xE000ED08)
#define RESET_CONTROL REGISTER(0xE000ED0C)

enum { EMPTY = 1 << 4, FULL = 1 << 5, RING = 256 };

static volatile uint32_t millis;
static volatile uint8_t ring[RING], ring_in, ring_out; /* they run over at 256 by themselves */
static uint32_t boots KEPT;
static uint32_t boots_mark KEPT;

static void on_systick(void) {
    millis++;
}

static void on_uart(void) {
    UART_CLEAR = 0x7F0;
    while (!(UART_FLAGS & EMPTY)) {
        uint8_t byte = (uint8_t)UART_DATA;
        if ((uint8_t)(ring_in + 1) != ring_out) {
            ring[ring_in++] = byte;
        }
    }
}

int16_t hg_port_read(void) {
    return ring_in == ring_out ? -1 : ring[ring_out++];
}

void hg_port_write(uint8_t byte) {
    while (UART_FLAGS & FULL) {
    }
    UART_DATA = byte;
}

uint32_t hg_port_millis(void) {
    return millis;
}

void platform_led(bool is_on) {
    PORT_F_0 = is_on;
}

void platform_reset(void) {
    RESET_CONTROL = 0x05FA0004;
    for (;;) {
    }
}

static void set_up(void) {
    CLOCK_UART |= 1;
    CLOCK_GPIO |= 0x21;
    PORT_A_FUNCTION |= 3;
    PORT_A_DIGITAL |= 3;
    PORT_F_DIRECTION |= 1;
    PORT_F_DIGITAL |= 1;
    UART_CONTROL = 0;
    UART_BAUD_WHOLE = 6; /* 115,200 bit/s */
    UART_BAUD_PART = 50;
    UART_LINE = 0x70; /* 8 bits, FIFO */
    UART_INTERRUPTS = 1 << 4 | 1 << 6;
    UART_CONTROL = 0x301;
    ENABLE_0 = 1 << 5;
    SYSTICK_RELOAD = 12500 - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 7;
}

#ifndef RUNS_IN_SHELF
typedef void (*program)(void);

/* Leave for the new image, whose vectors are 256 bytes behind its beginning. */
static void start_image(void) {
    const uint8_t *image = image_to_start();
    if (image) {
        uint32_t vectors = (uint32_t)(uintptr_t)image + 256;
        VECTORS_AT = vectors;
        ((program)REGISTER(vectors + 4))(); /* the stack begins at the same place */
    }
}
#endif

extern uint32_t data_from[], data_begin[], data_end[], bss_begin[], bss_end[], stack_top[];

static void on_reset(void) {
#ifndef RUNS_IN_SHELF
    start_image();
#endif
    memcpy(data_begin, data_from, (uintptr_t)data_end - (uintptr_t)data_begin);
    memset(bss_begin, 0, (uintptr_t)bss_end - (uintptr_t)bss_begin);
    if (boots_mark != 0xB007B007) {
        boots_mark = 0xB007B007;
        boots = 0;
    }
    set_up();
    app_begin((uint16_t)++boots);
    for (;;) {
        app_poll();
        if (ring_in == ring_out) {
            __asm__ volatile("wfi");
        }
    }
}

static void on_fault(void) {
    platform_reset();
}

typedef void (*handler)(void);

__attribute__((section(".vectors"), used)) static const struct {
    const uint32_t *stack;
    handler system[15];
    handler interrupts[6];
} VECTORS = {
    stack_top,
    {on_reset, on_fault, on_fault, on_fault, on_fault, on_fault, 0, 0, 0, 0, on_fault, on_fault, 0, on_fault, on_systick},
    {on_fault, on_fault, on_fault, on_fault, on_fault, on_uart},
};
