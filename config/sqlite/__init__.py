"""SQLite for many writers at once; the database backend `config.sqlite`."""
