"""What operators see: metrics, log lines, health checks and the live view."""
