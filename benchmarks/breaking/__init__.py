"""What `benchmarks/faults.py` does to leanspike: damaged files, killed runs, full disks."""
