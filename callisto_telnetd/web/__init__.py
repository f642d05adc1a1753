"""The web server, a process of its own: it opens no database and asks the server through the local socket."""
