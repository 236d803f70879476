"""The sections of the configuration, by the part of the system that reads them."""
