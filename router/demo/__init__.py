"""The small world of `vestibule demo`: NATS, authorities, sample apps and a router, all on the loopback address."""
