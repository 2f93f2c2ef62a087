"""What a deployment needs beside the program: Prometheus, Grafana, and the code that makes the dashboards."""
