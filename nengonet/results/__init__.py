"""From spike counts to classes, results and their files."""
