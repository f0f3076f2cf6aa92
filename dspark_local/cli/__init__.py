"""The command `dspark-local`."""
