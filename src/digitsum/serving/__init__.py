"""The web page, the HTTP interface and the static site."""
