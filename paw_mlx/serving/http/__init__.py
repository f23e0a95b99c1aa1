"""HTTP on this machine: an application (Starlette) and the server (uvicorn) that runs it.

state    what all requests share, and the limits they keep
app      the application: the routes of all areas behind the guard
guard    who may ask, how much and how often
server   connections: how many, and how long they may say nothing
errors   how errors are told
"""
