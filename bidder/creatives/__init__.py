"""What is shown: whether a creative fits a slot, and the markup that shows it."""
