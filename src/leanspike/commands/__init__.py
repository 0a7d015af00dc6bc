"""The commands of the command line, a file for each command or family.

A command imports its modules when it runs, so that ``leanspike --help`` is quick.
"""
