"""What leanspike does on a GPU, checked and measured by `run.sh`."""
