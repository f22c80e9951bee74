"""The commands of ``dcmnet``: arguments in, pages and exit codes out."""
