"""The application: make images with trained generators in a browser, behind access control.

``users`` who may enter, ``sessions`` who has, ``access`` what stands in front of every request, ``record`` the log of
it; ``models`` the runs and their generators, ``directions`` of their latents, ``training`` a run that the page began;
``context`` what all tabs are given, ``pages`` a module for each tab, ``page`` all of them, ``server`` the command.
"""
