"""Curves of rate and distortion from real archives of a sample: `batchcodec compare`."""
