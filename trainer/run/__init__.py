"""What every run needs: errors, counted network calls, processes, time, memory."""
