"""The tabs of the page, a module each: ``build`` adds one to the page."""
