"""The service as it is, on a device that fails as a test wants it to."""
