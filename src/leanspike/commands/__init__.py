"""The commands of the command line, a file for each command or family.

A command imports what it needs when it runs, so that ``leanspike --help`` is quick.
"""
