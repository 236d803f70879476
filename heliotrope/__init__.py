"""What everyone shares and what a client installs: contract, configuration, errors, chat format, client."""
