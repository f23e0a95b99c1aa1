"""The daemon: bases and programs of one user kept in memory, for all callers on this machine.

server      accepts connections, ends well
session     one client: its requests, its calls, its cancelling
requests    what they ask for, and what they are answered
programs    the bytes that clients put, as programs
threads     threads that are lent, for what blocks
log         what happened, without anyone's inputs
lifetime    one daemon a user: start, stop, the lock and the socket
activation  launchd and systemd, which start it when somebody calls
"""
