"""What does a bidder carry? Open-loop load, measured from the moment a request was due."""
