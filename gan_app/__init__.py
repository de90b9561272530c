"""The application: make images with trained generators in a browser, behind access control.

``users`` who may enter, ``sessions`` who has, ``access`` what stands in front of every request, ``limits`` how much one
may ask for, ``models`` the runs and their generators, ``pages`` a module for each tab, ``server`` the command.
"""
