"""The API of the rating side: the same services as the pages, for programs with a token."""
