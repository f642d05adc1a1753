"""The doors: Telnet and Telnet over TLS, and the local socket of the command line."""
