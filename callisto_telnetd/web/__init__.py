"""The web server, a process of its own: it opens no database and asks the server through the local socket.

``server.py`` serves, ``protocol.py`` keeps its connections within their bounds (with ``places.py``, ``framing.py``),
``guard.py`` its requests (with ``hosts.py``, ``proxies.py``), ``login_places.py`` its log-ins. ``users.py`` knows
who is logged in, ``sessions.py`` keeps their sessions, ``appliance.py`` asks the server. Each of the other modules is
a noun with its pages; those that have addresses of their own have ``ROUTES``.
"""
