"""Set-up, the demo and running the whole on one machine; imported by nothing that is installed."""
