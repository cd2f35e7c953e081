"""What every process sets up: cores, progress, logs of unexpected errors, telemetry of packages."""
