/* SPDX-License-Identifier: Apache-2.0
 *
 * An ATmega328P by simavr, for firmware that needs what QEMU lacks: timers 0 and 2 (Arduino's millis and delay), sleep, EEPROM.
 *
 *     simavr-run IMAGE.elf ... fd=UART ... fd=CONTROL
 *
 * It is run by firmware_sim/firmware/emulator.py in the place of QEMU, and knows as much of QEMU's control protocol as that
 * needs: one command a line, each answered. The controller runs at its 16 MHz, and stands still until it is told to run.
 */
#define _DEFAULT_SOURCE 1
#include <poll.h>
#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MHZ = 16, RAM = 0x800000, BEHIND = 100000 /* cycles more than this are not made up for: the computer was busy */ };

static avr_t *avr;
static avr_irq_t *input;
static int uart = -1, control = -1;
static int is_running, takes_bytes = 1;
static uint64_t started; /* microseconds, when the clock was at `base` */
static avr_cycle_count_t base;

static uint64_t microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void send_all(int to, const char *data, size_t size) {
    while (size) {
        ssize_t sent = write(to, data, size);
        if (sent <= 0) {
            exit(0); /* the owner is gone */
        }
        data += sent;
        size -= (size_t)sent;
    }
}

static void on_output(avr_irq_t *irq, uint32_t value, void *none) {
    char byte = (char)value;
    (void)irq, (void)none;
    send_all(uart, &byte, 1);
}

static void on_xon(avr_irq_t *irq, uint32_t value, void *none) {
    (void)irq, (void)value, (void)none;
    takes_bytes = 1;
}

static void on_xoff(avr_irq_t *irq, uint32_t value, void *none) {
    (void)irq, (void)value, (void)none;
    takes_bytes = 0;
}

/* Time passes in `run`, not here. */
static void on_sleep(avr_t *one, avr_cycle_count_t cycles) {
    (void)one, (void)cycles;
}

static void be_silent(avr_t *one, const int level, const char *format, va_list values) {
    (void)one, (void)level, (void)format, (void)values;
}

static void start_clock(void) {
    started = microseconds();
    base = avr->cycle;
}

static void run(void) {
    avr_cycle_count_t target = base + (microseconds() - started) * MHZ;
    if (target > avr->cycle + MHZ * BEHIND) {
        start_clock();
        target = avr->cycle + MHZ * 1000;
    }
    while (avr->cycle < target) {
        int state = avr_run(avr);
        if (state == cpu_Done || state == cpu_Crashed) {
            fputs("the firmware has crashed, or sleeps for ever\n", stderr);
            exit(1);
        }
    }
}

static void save_memory(const char *line) {
    const char *address = strstr(line, "\"val\": "), *size = strstr(line, "\"size\": "), *name = strstr(line, "\"filename\": \"");
    char path[256];
    if (!address || !size || !name || sscanf(name + 13, "%255[^\"]", path) != 1) {
        return;
    }
    unsigned long from = strtoul(address + 7, NULL, 10) - RAM, count = strtoul(size + 8, NULL, 10);
    FILE *file = fopen(path, "wb");
    if (file && from <= avr->ramend && count <= avr->ramend + 1 - from) {
        fwrite(avr->data + from, 1, count, file);
    }
    if (file) {
        fclose(file);
    }
}

static void obey(const char *line) {
    if (strstr(line, "\"cont\"")) {
        is_running = 1;
        start_clock();
    } else if (strstr(line, "\"stop\"")) {
        is_running = 0;
    } else if (strstr(line, "\"system_reset\"")) {
        avr_reset(avr);
        takes_bytes = 1;
        start_clock();
    } else if (strstr(line, "\"pmemsave\"")) {
        save_memory(line);
    } else if (strstr(line, "\"quit\"")) {
        exit(0);
    }
    send_all(control, "{\"return\": {}}\n", 15);
}

static void read_control(void) {
    static char line[1024];
    static size_t size;
    ssize_t got = read(control, line + size, sizeof line - 1 - size);
    if (got <= 0) {
        exit(0);
    }
    size += (size_t)got;
    line[size] = 0;
    for (char *end; (end = strchr(line, '\n'));) {
        *end = 0;
        obey(line);
        size -= (size_t)(end + 1 - line);
        memmove(line, end + 1, size + 1);
    }
}

static void read_uart(void) {
    uint8_t byte;
    if (read(uart, &byte, 1) != 1) {
        exit(0);
    }
    avr_raise_irq(input, byte);
}

static void set_up(const char *image) {
    elf_firmware_t firmware;
    uint32_t flags = 0;
    memset(&firmware, 0, sizeof firmware);
    avr_global_logger_set(be_silent);
    if (elf_read_firmware(image, &firmware) != 0 || !(avr = avr_make_mcu_by_name("atmega328p"))) {
        fprintf(stderr, "%s: cannot be loaded\n", image);
        exit(1);
    }
    avr_init(avr);
    firmware.frequency = MHZ * 1000000;
    avr_load_firmware(avr, &firmware);
    avr->frequency = MHZ * 1000000;
    avr->sleep = on_sleep;
    avr_ioctl(avr, AVR_IOCTL_UART_GET_FLAGS('0'), &flags);
    flags &= ~(uint32_t)(AVR_UART_FLAG_STDIO | AVR_UART_FLAG_POLL_SLEEP);
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    input = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_output, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XON), on_xon, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XOFF), on_xoff, NULL);
}

int main(int count, char **words) {
    for (int at = 2; at < count; at++) {
        const char *fd = strstr(words[at], "fd=");
        if (fd) {
            *(uart < 0 ? &uart : &control) = atoi(fd + 3);
        }
    }
    if (control < 0) {
        fputs("usage: simavr-run IMAGE.elf ... fd=UART ... fd=CONTROL\n", stderr);
        return 2;
    }
    set_up(words[1]);
    send_all(control, "{\"QMP\": {}}\n", 12);
    for (;;) {
        struct pollfd look[2] = {{control, POLLIN, 0}, {uart, POLLIN, 0}};
        int may_hear = is_running && takes_bytes;
        poll(look, may_hear ? 2 : 1, is_running ? 1 : -1);
        if (look[0].revents) {
            read_control();
        }
        if (may_hear && look[1].revents) {
            read_uart();
        }
        if (is_running) {
            run();
        }
    }
}
