"""Does a bidder stay as it is, hour after hour? `python -m loadtest soak`."""
