"""s2s: train, run and score sequence-to-sequence translation models from one YAML file."""

__version__ = "0.1.0"
