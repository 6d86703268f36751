"""Jobs that survive a kill: rows, files, order, and the process that runs them. No torch here."""
