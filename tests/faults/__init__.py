"""Kills, damage and full disks, in a short form and, with ``-m faults``, in full."""
