"""A local page to browse an archive: `server` speaks HTTP, `pages` answers, `catalogue` searches, the others draw."""
