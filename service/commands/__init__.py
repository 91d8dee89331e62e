"""What the subcommands of `srr` do; `service.cli` only declares them."""
