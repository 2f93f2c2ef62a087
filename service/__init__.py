"""What people run: settings, command line, workers, HTTP and metrics, broker, demo, replay."""
