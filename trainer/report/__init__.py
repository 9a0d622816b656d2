"""What a run leaves for its reader: report.json and pictures."""
