"""MMSE: a shop's behaviour logs in, product search out."""

__version__ = "0.1.0"
