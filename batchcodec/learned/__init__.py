"""Learned codecs. torch is imported only inside this package, and only when a network runs."""
