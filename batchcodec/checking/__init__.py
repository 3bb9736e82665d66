"""Is an archive what was packed (`verify`), and what of it can be had if not (`repair`)."""
