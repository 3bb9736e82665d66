"""What packing a dataset would come to, from a sample of it: `batchcodec plan`."""
