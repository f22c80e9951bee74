"""What commands share: options, errors without a traceback, progress bars."""
