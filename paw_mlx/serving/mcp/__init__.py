"""Functions as tools of agents: the Model Context Protocol over standard input and output.

catalog    which stored functions there are, looked up again when the store changes
tools      how an agent sees one: name, description, schemas, answers
arguments  what an agent said, checked
actions    compile, test and fix, where they are allowed
types      all that as the official package has it
lines      standard input, line by line
server     the protocol
"""
