"""The edge: the exchange's endpoint, notices, ops, the supervisor and its workers."""
