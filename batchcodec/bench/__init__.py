"""How fast codecs are on a dataset of the user's own, and how many bytes they take: `batchcodec bench`."""
