"""Who is not in this process: the daemon, HTTP, and agents are served from here."""
