"""What a job is submitted through, whichever edge it came to. Knows no HTTP."""
