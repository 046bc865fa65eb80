"""Would an exchange accept this bidder? `loadtest.certify.command` asks, rule by rule."""
