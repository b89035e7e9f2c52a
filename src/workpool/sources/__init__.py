"""Where items come from when nobody calls `submit`."""
