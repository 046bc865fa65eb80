"""What does a bidder do when things break? `python -m loadtest faults`."""
