"""What this machine and these settings need: `mimix doctor` and `mimix models`."""
