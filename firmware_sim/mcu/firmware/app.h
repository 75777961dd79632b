/* SPDX-License-Identifier: Apache-2.0
 *
 * The application that the emulated devices run, and what it asks of its platform.
 */
#ifndef APP_H
#define APP_H

#include "../heliograph.h"

/* `boots`: how often the device was started, this time included. */
void app_begin(uint16_t boots);

/* To be called for ever. */
void app_poll(void);

/* ---- The platform ---- */

void platform_led(bool is_on);

/* A reset; does not return on a controller. */
void platform_reset(void);

/* What is not cleared by a reset. */
#if defined(__AVR__) || defined(__arm__)
#define KEPT __attribute__((section(".noinit")))
#else
#define KEPT
#endif

/* The place for an image: memory of its own, if the linker script has some. */
#ifdef __arm__
#define SHELVED __attribute__((section(".shelf")))
#else
#define SHELVED KEPT
#endif

#endif
