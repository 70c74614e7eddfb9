"""The nodes of the state machine, one module each: functions of state and context that return an update.

Each can be run again at any time: what was done is found in the home, not computed again.
"""
