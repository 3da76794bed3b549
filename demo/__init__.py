"""The demonstration: real creatives through a real broker, every one of them accounted for. `python -m demo --help`."""
