"""What starts a run's process: here, or (in other launchers) on a cluster."""
