/* SPDX-License-Identifier: Apache-2.0
 *
 * Who a device of a simulated fleet is: a block in flash that is stamped into the finished image, as in a factory, so that one
 * image serves any number of devices. firmware_sim/firmware/identity.py does it, and has the same fields.
 */
#ifndef IDENTITY_H
#define IDENTITY_H

#include "../heliograph.h"

enum { IDENTITY_NAME = 16 + 1, IDENTITY_TOPIC = HG_PAYLOAD - 6 + 1 };

/* Bytes alone, so that every compiler lays them out the same. Numbers begin with their lowest byte. */
struct identity {
    char mark[16];
    char every[4]; /* milliseconds between two readings */
    char keep_alive[2];
    char sleep[2]; /* seconds that it says it is silent for; 0: it stays awake */
    char nonce[2]; /* another one for each run */
    char qos;
    char is_clean; /* the session ends with the connection */
    char listens;  /* to `command` */
    char name[IDENTITY_NAME];
    char topic[IDENTITY_TOPIC];
    char command[IDENTITY_TOPIC];
};

extern const struct identity IDENTITY;

#endif
