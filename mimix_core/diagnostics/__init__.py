"""Check this machine and the models that the settings require."""
