"""What the addresses of the training side do: fetch, call one service, answer."""
