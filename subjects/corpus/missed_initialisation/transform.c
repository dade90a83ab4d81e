/* Makes what the new start-up makes. */
void start(void);

void kairos_transform(void) { start(); }
