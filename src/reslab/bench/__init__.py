"""How fast this machine trains, evaluates and feeds networks, beside what other libraries do in the same run."""
