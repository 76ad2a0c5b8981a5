"""The API of the training rooms: the same services as the pages, for programs with a token."""
