"""The pages of the rating side: thin functions that fetch, check a form, call one service and render."""
