"""`python -m pipeline VERB …`: the same as the installed command."""

from pipeline.command import command

command()
