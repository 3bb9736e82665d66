"""The version of the library; the file format has its own."""

__version__ = "0.1.0"
