"""Archives out of archives: groups are copied as they are stored, nothing is coded again."""
