"""What does a bidder earn, carry and survive? Simulated markets, load, faults, certification."""
