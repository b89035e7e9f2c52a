"""The service: pools from a YAML file, run, watched and stopped like a production process."""
