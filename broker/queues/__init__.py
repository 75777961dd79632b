"""Point-to-point queues as pure rules: one consumer for each message, which must acknowledge."""
