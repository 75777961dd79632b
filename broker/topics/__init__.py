"""Who wants what: filters, the tree of subscriptions, retained messages, shared groups."""
