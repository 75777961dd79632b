"""The virtual wire, from below: faults (what goes wrong) < uart (pace, buffers) < worlds (virtual
and real time) < pty (a port that a gateway opens).
"""
