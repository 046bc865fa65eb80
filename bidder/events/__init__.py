"""What happened: the events, writing them down, and reading them back."""
