"""An OpenID provider on loopback that speaks the Hub's sign-in: what it does wrong, a test has told it to."""
