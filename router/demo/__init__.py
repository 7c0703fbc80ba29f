"""What the demo starts around the router: a NATS server, authorities and certificates, sample apps."""
