"""Where people, ledgers and money are kept: connecting, coalescing, and surviving an outage."""
