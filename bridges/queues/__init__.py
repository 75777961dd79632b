"""Work queues: the rules that fill them from topics, and the doors for backends."""
