"""Real firmware: images < emulator < port (an emulated controller as a serial port); compiled: the
client in C as a machine."""
