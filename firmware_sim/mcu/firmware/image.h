/* SPDX-License-Identifier: Apache-2.0
 *
 * The new image that the device takes: where it is kept, and how far it is.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdint.h>

/* The image that is complete; size 0: there is none. */
struct image {
    const uint8_t *data;
    uint32_t size;
};
struct image image_ready(void);

/* If there is news of the progress, put it into `text` (at least 8 bytes); returns its size, 0: nothing new. */
uint8_t image_progress(char *text);

#endif
