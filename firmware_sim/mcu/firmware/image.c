/* SPDX-License-Identifier: Apache-2.0
 *
 * The shelf of the files channel: one image, which begins with "HGFW". It lies in memory that a reset does not clear, in the
 * place of an external flash, so a download goes on where it was after a reset in its middle. A program that runs in the shelf
 * itself (RUNS_IN_SHELF) takes no other image: a device with two shelves could.
 */
#include "image.h"

#include <string.h>

#include "app.h"

#if HG_FILES

#ifndef SHELF
#define SHELF 512 /* bytes */
#endif

enum { MARK = 0x5A17, UNCHANGED = 0xFF, OVER = 128, TRIALS = 3 };

static struct {
    uint32_t size;
    uint32_t offset;
    uint16_t mark;
    uint8_t is_done;
    volatile uint8_t trials; /* starts, since it last worked */
    uint8_t digest[32];
} shelf KEPT;

#ifndef RUNS_IN_SHELF
static uint8_t data_of[SHELF] SHELVED;
#endif

static uint8_t news = UNCHANGED; /* tenths, or OVER and an outcome */
static uint8_t told = UNCHANGED;

void image_works(void) {
    shelf.trials = 0;
}

#ifndef RUNS_IN_SHELF
const uint8_t *image_to_start(void) {
    struct hg_sha256 sha;
    if (shelf.mark != MARK || shelf.is_done != 1 || shelf.size > SHELF || ++shelf.trials > TRIALS) {
        return NULL;
    }
    hg_sha256_begin(&sha);
    for (uint32_t at = 0; at < shelf.size; at++) {
        hg_sha256_add(&sha, data_of + at, 1);
    }
    hg_sha256_end(&sha);
    return memcmp(sha.block, shelf.digest, 32) == 0 ? data_of : NULL;
}
#endif

#ifdef RUNS_IN_SHELF

/* There is one shelf, and this program is in it. */
int32_t hg_file_begin(uint32_t size, const uint8_t digest[32], const char *name, uint8_t name_size) {
    (void)size, (void)digest, (void)name, (void)name_size;
    return -HG_FILE_REFUSED;
}

bool hg_file_write(uint32_t offset, const uint8_t *data, uint8_t size) {
    (void)offset, (void)data, (void)size;
    return false;
}

bool hg_file_read(uint32_t offset, uint8_t *data, uint8_t size) {
    (void)offset, (void)data, (void)size;
    return false;
}

void hg_file_end(enum hg_outcome outcome) {
    (void)outcome;
}

#else

static void note_progress(void) {
    news = (uint8_t)(shelf.offset * 10 / shelf.size);
}

int32_t hg_file_begin(uint32_t size, const uint8_t digest[32], const char *name, uint8_t name_size) {
    (void)name, (void)name_size;
    if (size > SHELF || size < 4) {
        return size < 4 ? -HG_FILE_REFUSED : -HG_FILE_TOO_LARGE;
    }
    if (shelf.mark != MARK || shelf.size != size || shelf.offset > size || memcmp(shelf.digest, digest, 32) != 0) {
        shelf.size = size;
        shelf.offset = 0;
        shelf.is_done = shelf.trials = 0;
        memcpy(shelf.digest, digest, 32);
        shelf.mark = MARK;
    }
    note_progress();
    return (int32_t)shelf.offset;
}

bool hg_file_write(uint32_t offset, const uint8_t *data, uint8_t size) {
    static const char MAGIC[4] = {'H', 'G', 'F', 'W'};
    for (uint8_t at = 0; at < size; at++) {
        if (offset + at < 4 && data[at] != (uint8_t)MAGIC[offset + at]) {
            return false;
        }
        data_of[offset + at] = data[at];
    }
    shelf.offset = offset + size; /* after the bytes: a reset in between costs a chunk */
    note_progress();
    return true;
}

bool hg_file_read(uint32_t offset, uint8_t *data, uint8_t size) {
    memcpy(data, data_of + offset, size);
    return true;
}

void hg_file_end(enum hg_outcome outcome) {
    if (outcome == HG_FILE_DONE) {
        shelf.is_done = 1;
    } else if (outcome != HG_FILE_ABANDONED) {
        shelf.mark = 0;
    }
    news = (uint8_t)(OVER | outcome);
    told = UNCHANGED;
}

#endif

static uint8_t put_text(char *to, const char *text) {
    uint8_t size = (uint8_t)strlen(text);
    memcpy(to, text, size);
    return size;
}

uint8_t image_progress(char *text) {
    if (news == told || news == UNCHANGED) {
        return 0;
    }
    told = news;
    switch (news) {
    case OVER | HG_FILE_DONE: return put_text(text, "done");
    case OVER | HG_FILE_DAMAGED: return put_text(text, "damaged");
    case OVER | HG_FILE_REFUSED: return put_text(text, "refused");
    case OVER | HG_FILE_ABANDONED: return put_text(text, "paused");
    case 0: return put_text(text, "0");
    case 10: return put_text(text, "100");
    default:
        text[0] = (char)('0' + news);
        text[1] = '0';
        return 2;
    }
}

#endif
