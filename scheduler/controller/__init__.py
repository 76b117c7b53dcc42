"""The operator's control loop: observe, decide (pure), act; conditions, Events, turns."""
