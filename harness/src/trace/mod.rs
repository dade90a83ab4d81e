//! What one unpatched run recorded: points with stacks, events, exchanges.
