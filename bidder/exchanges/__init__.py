"""What each exchange wants: its profile, from `config/exchanges/`."""
