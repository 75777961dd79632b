/* SPDX-License-Identifier: Apache-2.0
 *
 * The new image that the device takes: where it is kept, and how far it is.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <stddef.h>
#include <stdint.h>

/* The image to be started: complete, whole, and not tried three times in vain; NULL: there is none. */
const uint8_t *image_to_start(void);

/* Called by the program that was started: it works. */
void image_works(void);

/* If there is news of the progress, put it into `text` (at least 8 bytes); returns its size, 0: nothing new. */
uint8_t image_progress(char *text);

#endif
