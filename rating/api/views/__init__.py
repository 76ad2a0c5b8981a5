"""What the addresses of the rating side do: fetch, call one service, answer."""
