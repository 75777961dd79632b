"""What a device is made of: signals, battery, flash, and the bugs of its firmware."""
