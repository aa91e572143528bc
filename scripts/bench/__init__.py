"""What the program costs: each script measures one thing and ends with a line of JSON."""
