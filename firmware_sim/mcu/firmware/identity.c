/* SPDX-License-Identifier: Apache-2.0
 *
 * The block before it is stamped. In a file of its own, so that no compiler takes these values for the ones that will be there.
 */
#include "identity.h"

const struct identity IDENTITY HG_FLASH = {
    .mark = {'H', 'G', '-', 'I', 'D', 'E', 'N', 'T', 'I', 'T', 'Y', '-', 'O', 'F', ':', '1'},
    .every = {(char)(1000 & 0xFF), 1000 >> 8},
    .keep_alive = {60},
    .nonce = {1},
    .qos = 1,
    .is_clean = 1,
    .listens = 1,
    .name = "sensor",
    .topic = "sensor",
    .command = "sensor/command",
};
