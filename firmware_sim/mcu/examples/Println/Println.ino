/* SPDX-License-Identifier: Apache-2.0
 *
 * The first sketch: a reading a second, as a line of text. The gateway publishes "21.5" to the topic "temp/1".
 * No library is needed, and nothing is repeated: what the wire loses is lost.
 */

void setup() {
    Serial.begin(115200);
}

void loop() {
    Serial.println("temp/1 21.5"); /* topic, space, value */
    delay(1000);
}
