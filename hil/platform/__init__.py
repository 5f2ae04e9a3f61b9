"""The pretend platform: it keeps what it is sent, says what it holds, and counts.

It reads batches by the published contract alone and shares no code with the agent, so that what the
two agree on is a proof and not an echo.
"""
