"""The recipes that come with leanspike, one YAML file each."""
