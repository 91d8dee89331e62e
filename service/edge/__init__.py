"""What both HTTP edges share: who calls, what an operation is given, which status an error has, what surrounds it."""
