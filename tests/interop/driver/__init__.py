"""Runs a node binary and holds it to the page with the peers of `bt2c_peer`."""
