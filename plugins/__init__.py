"""The built-in formats and classical codecs, registered through the entry points that third parties use."""
